"""docs/settings.md as a page: every table renders, whatever a default or a text has in it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tss.settings import reference
from tss.settings.keys import camel, fields
from tss.settings.model import SECTIONS
from tss.settings.sections.exporters import EXPORTERS

ROOT = Path(__file__).resolve().parents[1]


def tables(page: str) -> Iterator[list[list[str]]]:
    """Each table as rows of cells: by GitHub's rules a table ends with the first line that has no pipe in front."""
    rows: list[list[str]] = []
    for line in [*page.splitlines(), ""]:
        if line.lstrip().startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]])
        elif rows:
            yield rows
            rows = []


def test_each_row_has_as_many_cells_as_the_head_and_none_is_cut_off() -> None:
    found = [*tables(reference())]
    assert len(found) >= len(SECTIONS) + len(EXPORTERS)
    for head, line, *rows in found:
        assert {*line} == {"---"}
        assert rows
        for row in rows:
            assert len(row) == len(head) == len(line), row
            assert all(cell and cell.count("`") % 2 == 0 for cell in row), row


def test_every_key_is_a_row() -> None:
    keys = [
        row[0].split("<br>")[0].strip("`") for head, _, *rows in tables(reference()) if head[0] == "key" for row in rows
    ]
    assert keys == [camel(field.name) for cls in _classes() for field in fields(cls)]


def _classes() -> Iterator[type[Any]]:
    for name, cls in SECTIONS.items():
        if name == "dead_letter":
            yield from EXPORTERS.values()
        yield cls


@pytest.mark.parametrize("page", ["docs/settings.md", "docs/metrics.md"])
def test_a_line_that_begins_like_a_list_is_one(page: str) -> None:
    """A default over several lines had broken the table into a list from there on."""
    lines = (ROOT / page).read_text().splitlines()
    for before, line in pairwise(lines):
        assert not (before.lstrip().startswith("|") and line and not line.lstrip().startswith("|")), line
