"""The open traces by id, by age, and by the time of their last fragment."""

from __future__ import annotations

from tss.core.trace import Trace


class OpenTraces:
    """A dict and two linked lists. The links are fields of the traces, so a trace can leave the middle of both lists.

    In the second list a trace moves to the end with each fragment. So the traces that were packed after their last
    fragment are in front, and those with chunks to pack follow. ``to_pack`` is the first of those to pack.
    """

    __slots__ = ("_by_id", "_liveliest", "_newest", "oldest", "to_pack")

    def __init__(self) -> None:
        self._by_id: dict[bytes, Trace] = {}
        self.oldest: Trace | None = None
        self._newest: Trace | None = None
        self._liveliest: Trace | None = None
        self.to_pack: Trace | None = None  # the quietest trace with chunks to pack

    def __repr__(self) -> str:
        return f"<OpenTraces {len(self._by_id)}>"

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, trace_id: bytes) -> bool:
        return trace_id in self._by_id

    def get(self, trace_id: bytes) -> Trace | None:
        """The open trace with this id, or None."""
        return self._by_id.get(trace_id)

    def all(self) -> list[Trace]:
        """All open traces, in the order in which they were added."""
        return [*self._by_id.values()]

    def add(self, trace: Trace) -> None:
        """Add a trace, as the newest and the liveliest."""
        self._by_id[trace.trace_id] = trace
        self._join_age(trace)
        self._append(trace)

    def touch(self, trace: Trace) -> None:
        """Move the trace to the end of the second list, because it got a fragment."""
        if self._liveliest is not trace:
            self._take_out(trace)
            self._append(trace)
        elif self.to_pack is None:
            self.to_pack = trace

    def remove(self, trace: Trace) -> None:
        """Remove a trace that is not open any more."""
        del self._by_id[trace.trace_id]
        self._take_out(trace)
        self._leave_age(trace)

    def renew(self, trace: Trace) -> None:
        """Make a trace the newest in the list by age. It was parked, so it holds no old records any more."""
        if self._newest is not trace:
            self._leave_age(trace)
            self._join_age(trace)

    def _join_age(self, trace: Trace) -> None:
        trace.older = self._newest
        if self._newest is None:
            self.oldest = trace
        else:
            self._newest.newer = trace
        self._newest = trace

    def _leave_age(self, trace: Trace) -> None:
        older, newer = trace.older, trace.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self._newest = older
        else:
            newer.older = older
        trace.older = trace.newer = None

    def _append(self, trace: Trace) -> None:
        trace.quieter = self._liveliest
        if self._liveliest is not None:
            self._liveliest.livelier = trace
        self._liveliest = trace
        if self.to_pack is None:
            self.to_pack = trace

    def _take_out(self, trace: Trace) -> None:
        quieter, livelier = trace.quieter, trace.livelier
        if self.to_pack is trace:
            self.to_pack = livelier
        if quieter is not None:
            quieter.livelier = livelier
        if livelier is None:
            self._liveliest = quieter
        else:
            livelier.quieter = quieter
        trace.quieter = trace.livelier = None
