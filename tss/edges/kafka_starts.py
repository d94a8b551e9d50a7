"""Where to begin on a partition, and how that is written beside the committed offset."""

from __future__ import annotations

import json

from tss.core.partition import Commit
from tss.core.record import Start

VERSION = 1


def to_metadata(commit: Commit) -> str:
    """The text that goes with a committed offset; some 30 of the 4096 bytes that brokers allow."""
    return json.dumps({"v": VERSION, "replay": commit.replay_from}, separators=(",", ":"))


def from_metadata(text: str | None) -> int | None:
    """Where to begin reading; None when somebody else, or a version to come, wrote it."""
    try:
        known = json.loads(text or "")
    except ValueError:
        return None
    if not isinstance(known, dict) or known.get("v") != VERSION:
        return None
    replay = known.get("replay")
    return replay if isinstance(replay, int) and not isinstance(replay, bool) and replay >= 0 else None


def start(committed: int | None, metadata: str | None, first: int, end: int, reset: str) -> Start:
    """Where to begin, given the group's offset (None when there is none) and what the log holds.

    An offset that retention has taken is not `committed`: the new one has yet to be. An offset beyond the end is left
    as it is: only a fetch can tell (Tansu names the end too low).
    """
    if committed is None:
        offset = first if reset == "earliest" else end
        return Start(offset, offset, committed=False)
    if committed < first:
        return Start(first, first, committed=False)
    replay = from_metadata(metadata)
    return Start(committed, committed if replay is None else min(committed, max(first, replay)), committed=True)
