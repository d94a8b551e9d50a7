"""Runs of alike spans of a kept trace, each made into one: an N+1 of four hundred queries is one span that says so.

The rules are those of `likeness` (which spans are alike), `rules` (what the operator wants) and `composite` (what comes
of them). Source of the idea: Elastic's "compressed spans" and the Collector's `spanpruning` processor; unlike those,
spans need not be consecutive, and only those of one parent become one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from tss.core.compression.composite import composite
from tss.core.compression.likeness import Candidate, Key, Likeness
from tss.core.compression.outline import Outline, Seen
from tss.core.compression.rules import CompressionSettings, Rules, SqlPattern
from tss.core.otlp.rewriting import rewritten

__all__ = ["Compressed", "Compression", "CompressionSettings", "SqlPattern"]

# INTERNAL, CLIENT, PRODUCER. A server's or consumer's span is another process's side of a call.
_KINDS = frozenset((1, 3, 4))
_UNSET_OR_OK = frozenset((0, 1))
_NO_PARENT = frozenset((b"", bytes(8)))


@attrs.frozen
class Compressed:
    """A payload, and how many of its spans became how many composites."""

    payload: bytes
    spans: int = 0
    groups: int = 0


class Compression:
    """Compresses the traces it is given. Keeps nothing from one to the next, so that threads may share it."""

    def __init__(self, configured: CompressionSettings) -> None:
        self._rules = Rules.of(configured)

    def compress(self, payload: bytes, *, complete: bool) -> Compressed:
        """A trace's serialized `TracesData` with its runs of alike spans compressed; the very same object for none.

        `complete`: the root is there, no parent is missing and none is expected any more. Of other traces, and of late
        spans, only database calls are compressed, for anything else might be the parent of what is not there.

        Raises WireError.
        """
        outline = Outline(payload)
        changes: dict[int, bytes] = {}
        spans = groups = 0
        for name, members in self._runs(outline, complete=complete):
            changes.update((seen.field, b"") for seen, *_ in members)
            changes[members[0].seen.field] = composite(outline, name, members)
            spans += len(members)
            groups += 1
        return Compressed(rewritten(payload, changes), spans, groups)

    def _runs(self, outline: Outline, *, complete: bool) -> Iterator[tuple[str, Sequence[Candidate]]]:
        """What becomes one, each with its normalised name."""
        alike: dict[Key, list[Candidate]] = {}
        likeness = Likeness(self._rules, complete=complete)
        for seen in self._candidates(outline):
            outline.look_at(seen)
            found = likeness.of(seen)
            if found is not None:
                alike.setdefault(found[0], []).append(found[1])
        for key, members in alike.items():
            if len(members) >= self._rules.min_count:
                yield from ((key[-1], run) for run in self._in_windows(members))

    def _candidates(self, outline: Outline) -> list[Seen]:
        """Leaves that have enough others of their kind below the same parent; most traces have none."""
        leaves = [seen for seen in outline.spans if self._is_leaf(seen, outline.pointed_at)]
        if len(leaves) < self._rules.min_count:
            return []
        siblings = Counter([(seen.parent, seen.kind) for seen in leaves])
        return [seen for seen in leaves if siblings[seen.parent, seen.kind] >= self._rules.min_count]

    def _is_leaf(self, seen: Seen, pointed_at: set[bytes]) -> bool:
        return (
            seen.kind in _KINDS
            and seen.code in _UNSET_OR_OK
            and not seen.linked
            and seen.parent not in _NO_PARENT
            and seen.span_id not in pointed_at
            and 0 <= seen.end_ns - seen.start_ns <= self._rules.max_duration_ns
        )

    def _in_windows(self, members: list[Candidate]) -> Iterator[Sequence[Candidate]]:
        """Runs that start within the window, from the first on, and are long enough."""
        members.sort(key=_in_time)
        run: list[Candidate] = []
        for member in members:
            if run and member.seen.start_ns - run[0].seen.start_ns > self._rules.window_ns:
                if len(run) >= self._rules.min_count:
                    yield run
                run = []
            run.append(member)
        if len(run) >= self._rules.min_count:
            yield run


def _in_time(member: Candidate) -> tuple[int, bytes]:
    return member.seen.start_ns, member.seen.span_id
