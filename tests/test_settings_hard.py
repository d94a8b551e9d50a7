"""Every key of the settings refuses what it cannot take, and raises nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.hard_values import HARD
from tss.settings.errors import InvalidValue
from tss.settings.keys import about, fields
from tss.settings.kinds.kind import Kind
from tss.settings.model import SECTIONS
from tss.settings.sections.exporters import EXPORTERS

PLACES: list[Callable[[Any], object]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: [value, value],
    lambda value: {"a": value},
    lambda value: {str(value)[:20_000]: "a"},
    lambda value: {str(value)[:20_000]: value},
    lambda value: [{"name": value}],
    lambda value: {"policies": value, "resource": {"a": value}},
]


def kinds() -> Iterator[Any]:
    for name, section in {**SECTIONS, **EXPORTERS}.items():
        for field in fields(section):
            yield pytest.param(about(field).kind, id=f"{name}.{field.name}")


@pytest.mark.parametrize("kind", [*kinds()])
def test_a_key_raises_nothing_but_refusals(kind: Kind[Any]) -> None:
    for value in HARD:
        for place in PLACES:
            with suppress(InvalidValue):
                kind.read(place(value))
