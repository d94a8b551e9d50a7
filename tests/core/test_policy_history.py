"""The history of the policies as it is stored: what strangers wrote is left out, what newer versions wrote stays."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tss.core.policy_history import MOST_CHANGES, MOST_FILES, PolicyHistory, read_history
from tss.core.ruleset import Change

GOLDEN = {
    "change.1": b'{"fingerprint": "00000000000000aa", "revision": 1, "at": 10.5, "who": "replica", "source": "start"}',
    "change.2": b'{"fingerprint": "00000000000000bb", "revision": 2, "at": 20.0, "who": "anna (::1)", "source": "api", "new": [1]}',
    "files": b'[["00000000000000aa", 10.5]]',
    "newer": b"of a newer version",
}


def test_golden_bytes_are_read_and_what_is_not_known_stays() -> None:
    found = read_history(GOLDEN)
    assert [(each.revision, each.fingerprint, each.source) for each in found.changes] == [
        (1, "00000000000000aa", "start"), (2, "00000000000000bb", "api"),
    ]  # fmt: skip
    assert found.current == Change("00000000000000bb", 2, 20.0, "anna (::1)", "api")
    assert found.files[0].fingerprint == "00000000000000aa"
    more = found.with_change(Change("00000000000000cc", 3, 30.0, "bert", "file"), 30.0)
    assert {name: more.documents[name] for name in ("change.1", "change.2", "newer")} == {
        name: GOLDEN[name] for name in ("change.1", "change.2", "newer")
    }
    again = read_history(more.documents)
    assert (again.changes, again.files, again.revision) == (more.changes, more.files, 3)


def test_it_is_bounded() -> None:
    history = PolicyHistory()
    for number in range(1, 3 * MOST_CHANGES):
        history = history.with_change(Change(f"{number:016x}", number, float(number), "x" * 200, "file"), float(number))
    assert len(history.changes) == MOST_CHANGES and len(history.files) == MOST_FILES
    assert len(history.documents) == MOST_CHANGES + 1
    assert read_history(history.documents).revision == 3 * MOST_CHANGES - 1


def test_a_last_change_that_cannot_be_read_counts_and_is_not_taken_for_the_one_before() -> None:
    found = read_history({**GOLDEN, "change.3": b'{"fingerprint": null}'})
    assert (found.revision, found.current) == (3, None)


@given(
    st.dictionaries(
        st.sampled_from(["change.1", "change.7", "change.x", "change.", "files", "x"]) | st.text(max_size=20),
        st.binary(max_size=40) | st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["fingerprint", "revision", "at", "who", "source"]), inner, max_size=5), max_leaves=8).map(lambda value: json.dumps(value).encode()),
        max_size=5,
    )
)  # fmt: skip
def test_whatever_stands_there_is_read_without_an_error(documents: dict[str, bytes]) -> None:
    found = read_history(documents)
    made = found.with_change(Change("f" * 16, found.revision + 1, 1.0, "anna", "api"), 1.0)
    assert read_history(made.documents).current == made.current
