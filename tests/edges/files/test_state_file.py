"""The file beside the daemon: the contract of a store, a restart, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tss.core.documents import Stored
from tss.core.errors import Away
from tss.edges.files import state_file
from tss.edges.files.state_file import NAME, LocalState
from tss.edges.unusable import UnusableFile


@pytest.mark.parametrize("kept", [True, False])
async def test_what_was_stored_is_there_after_a_restart_if_there_is_a_directory(tmp_path: Path, *, kept: bool) -> None:
    directory = str(tmp_path) if kept else ""
    one = LocalState(directory)
    assert await one.read() == Stored("", {})
    await one.put("a" * 16, "text of a")
    assert await one.swap("", {"change.1": b"\x00\xff"}, 60)
    assert not await one.swap("", {"change.1": b"other"}, 60), "the version has changed"
    found = await LocalState(directory).read()
    assert found.documents == ({"change.1": b"\x00\xff"} if kept else {})
    assert await LocalState(directory).get("a" * 16) == ("text of a" if kept else None)


async def test_texts_are_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "MOST_CHANGES", 3)
    state = LocalState(str(tmp_path))
    for number in range(5):
        await state.put(str(number), "text")
    assert [await state.get(str(number)) is not None for number in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"version": 1}', b'{"version": 1, "documents": {"a": 3}, "texts": {}}']
)
async def test_a_file_that_cannot_be_read_is_kept_beside_and_a_new_one_begins(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    state = LocalState(str(tmp_path))
    assert await state.read() == Stored("", {})
    assert (tmp_path / f"{NAME}.bad").read_bytes() == content
    assert await state.swap("", {"change.1": b"1"}, 60)


async def test_a_directory_that_cannot_be_written_is_told_at_the_start_and_later(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="cannot be written"):
        LocalState(str(tmp_path / "none"))
    directory = tmp_path / "state"
    directory.mkdir()
    state = LocalState(str(directory))
    for each in directory.iterdir():
        each.unlink()
    directory.rmdir()
    with pytest.raises(Away, match=r"app\.stateDir"):
        await state.put("a", "text")
    assert await state.get("a") == "text", "this process knows it"
