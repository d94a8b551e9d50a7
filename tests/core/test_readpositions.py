"""The scaler's group: what is told, and what is no backlog."""

from __future__ import annotations

from tss.core.readpositions import PATIENCE_SECS, REPEAT_SECS, ReadPositions


def known(**standing: int) -> ReadPositions:
    made = ReadPositions()
    made.learn({int(id[1:]): offset for id, offset in standing.items()}, 0)
    return made


def test_what_has_moved_is_told_and_nothing_else() -> None:
    positions = known(p0=5, p1=7, p2=-1)
    assert positions.unknown({0: 5, 1: 9, 2: 0, 3: 1}) == [3]
    assert positions.due({0: 5, 1: 9, 2: 0}, 1) == {1: 9, 2: 0}
    positions.learn({1: 9, 2: 0}, 1)
    assert positions.due({0: 5, 1: 9, 2: 0}, 2) == {}


def test_what_is_read_again_is_no_backlog_for_a_while() -> None:
    """A handover replays seconds of the log: replicas that are added for that would only bring the next handover."""
    positions = known(p0=100)
    assert positions.due({0: 20}, 10) == {}
    assert positions.due({0: 99}, 10 + PATIENCE_SECS - 1) == {}
    assert positions.due({0: 101}, 10 + PATIENCE_SECS) == {0: 101}
    positions.learn({0: 101}, 50)
    assert positions.due({0: 90}, 100) == {}, "the patience begins anew"


def test_what_goes_back_for_longer_is() -> None:
    positions = known(p0=100)
    assert positions.due({0: 20}, 10) == {}
    assert positions.due({0: 30}, 10 + PATIENCE_SECS) == {0: 30}


def test_of_what_has_gone_nothing_is_remembered() -> None:
    positions = known(p0=100, p1=5)
    positions.due({0: 20, 1: 6}, 0)
    positions.keep({1: 6})
    assert positions.unknown({0: 20, 1: 6}) == [0]
    positions.learn({0: 60}, 40)
    assert positions.due({0: 50, 1: 6}, 40) == {1: 6}, "what stands is asked again, and the patience is new"


def test_what_does_not_move_is_told_now_and_then_or_kafka_would_forget_it() -> None:
    positions = known(p0=5)
    assert positions.due({0: 5}, REPEAT_SECS - 1) == {}
    assert positions.due({0: 5}, REPEAT_SECS) == {0: 5}
