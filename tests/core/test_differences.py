"""The differences of two texts of policies, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tss.core.differences import MOST_LINES, differences

A = {"name": "a", "keep": 0.1}
B = {"name": "b", "drop": True}


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {}, []),
        ({"x": 1}, {"x": 2}, ["x: 1 -> 2"]),
        ({"x": 1}, {"x": True}, ["x: 1 -> true"]),
        ({"x": 1}, {"y": "ü"}, ["x: 1 -> not set", 'y: not set -> "ü"']),
        ({"x": {"y": {"z": 1}}}, {"x": {"y": {"z": 2}}}, ["x.y.z: 1 -> 2"]),
        ({"p": [A, B]}, {"p": [{**A, "keep": 0.5}, B]}, ["p[a].keep: 0.1 -> 0.5"]),
        ({"p": [A]}, {"p": [A, B]}, ['p[b]: added: {"name": "b", "drop": true}']),
        ({"p": [A, B]}, {"p": [B]}, ['p[a]: removed: {"name": "a", "keep": 0.1}']),
        ({"p": [A, B]}, {"p": [B, A]}, ["p: other order: b, a"]),
        ({"p": [1, 2]}, {"p": [2, 1]}, ["p: [1, 2] -> [2, 1]"]),
        ({"p": [A, A]}, {"p": [A]}, [f"p: {json.dumps([A, A])} -> {json.dumps([A])}"]),
        ({"p": []}, {"p": [A]}, [f"p: [] -> {json.dumps([A])}"]),
    ],
)
def test_each_sort(before: Any, after: Any, lines: list[str]) -> None:
    assert differences(json.dumps(before), json.dumps(after)) == lines


def test_they_are_bounded() -> None:
    found = differences(json.dumps({f"k{n}": n for n in range(1000)}), json.dumps({"long": "x" * 10_000}))
    assert len(found) == MOST_LINES + 1 and max(map(len, found)) < 300 and found[-1].startswith("... and ")
