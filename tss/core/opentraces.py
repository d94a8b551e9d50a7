"""The open traces by their ids, by their age, and by when they last got a fragment."""

from __future__ import annotations

from tss.core.trace import Trace


class OpenTraces:
    """A dict, and two lists that are linked through the traces themselves: any can leave from the middle of both.

    In the second list a trace moves to the end with each fragment; so those with anything to pack come after those
    that were packed since, and ``to_pack`` parts them.
    """

    __slots__ = ("_by_id", "_liveliest", "_newest", "oldest", "to_pack")

    def __init__(self) -> None:
        self._by_id: dict[bytes, Trace] = {}
        self.oldest: Trace | None = None
        self._newest: Trace | None = None
        self._liveliest: Trace | None = None
        self.to_pack: Trace | None = None  # the quietest that has something to pack

    def __repr__(self) -> str:
        return f"<OpenTraces {len(self._by_id)}>"

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, trace_id: bytes) -> bool:
        return trace_id in self._by_id

    def get(self, trace_id: bytes) -> Trace | None:
        """The open trace of this id."""
        return self._by_id.get(trace_id)

    def all(self) -> list[Trace]:
        """From the oldest to the newest."""
        return [*self._by_id.values()]

    def add(self, trace: Trace) -> None:
        """It is the newest and the liveliest."""
        self._by_id[trace.trace_id] = trace
        self._join_age(trace)
        self._append(trace)

    def touch(self, trace: Trace) -> None:
        """It has got a fragment."""
        if self._liveliest is not trace:
            self._take_out(trace)
            self._append(trace)
        elif self.to_pack is None:
            self.to_pack = trace

    def remove(self, trace: Trace) -> None:
        """It is not open any more."""
        del self._by_id[trace.trace_id]
        self._take_out(trace)
        self._leave_age(trace)

    def renew(self, trace: Trace) -> None:
        """It counts as the newest from now on: it has been parked, and holds nothing that is older."""
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
