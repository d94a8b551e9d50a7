"""Compression of kept traces: many similar spans become one composite span, such as the 400 queries of an N+1 problem.

`likeness` says which spans are similar, `rules` has the operator's settings, and `composite` builds the composite span.
Elastic's "compressed spans" and the Collector's `spanpruning` processor do the same. Unlike theirs, the spans here need
not be consecutive, and all spans of a composite have the same parent.
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

# INTERNAL, CLIENT, PRODUCER. SERVER and CONSUMER spans are the remote side of a call, so they are never compressed.
_KINDS = frozenset((1, 3, 4))
_UNSET_OR_OK = frozenset((0, 1))
_NO_PARENT = frozenset((b"", bytes(8)))


@attrs.frozen
class Compressed:
    """The compressed payload: ``spans`` spans in it were replaced by ``groups`` composites."""

    payload: bytes
    spans: int = 0
    groups: int = 0


class Compression:
    """Compresses one trace at a time. It has no state between traces, so threads may share it."""

    def __init__(self, configured: CompressionSettings) -> None:
        self._rules = Rules.of(configured)

    def compress(self, payload: bytes, *, complete: bool) -> Compressed:
        """The trace's serialized `TracesData` with its similar spans compressed; the same object if there are none.

        `complete` means that the trace has its root, no span's parent is missing, and no more spans are expected. In other
        traces, and among late spans, only database calls are compressed: any other span may be the parent of a span that
        is missing.

        Raises WireError if `payload` is not a valid `TracesData`.
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
        """The groups of spans that each become one composite, with the composite's normalised name."""
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
        """Leaf spans with enough siblings of the same kind. Most traces have none and cost no more than this check."""
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
        """Groups of at least `min_count` spans that start within the window after the first of the group."""
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
