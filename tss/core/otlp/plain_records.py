"""The records of one poll and their fragments, as Python objects: the fallback for the compiled `records`, and its reference."""

from __future__ import annotations

import attrs

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.otlp.fragment import FRAGMENT_BYTES, Fragment

RECORD_BYTES = 250  # memory of a record: the object, its numbers, its place in the list


@attrs.define
class Row:
    """One Kafka message. Its fragments are those from ``first`` to before ``stop``."""

    partition: int
    offset: int
    timestamp_ms: int  # since the epoch; negative if the record has no timestamp
    first: int
    stop: int


class Records:
    """A batch of records, each with its fragments. Records have numbers, and so have the fragments of all of them.

    A scanner appends fragments to the last record. ``program`` made their facts, and ``rules``, the program of the force
    rules, what is ``forced``. Without force rules it is None.
    """

    def __init__(self, program: Program = ASKS_NOTHING, rules: Program | None = None) -> None:
        self.program = program
        self.rules = rules
        self._rows: list[Row] = []
        self._fragments: list[Fragment] = []
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Records {len(self._rows)}, {len(self._fragments)} fragments>"

    # -- growing

    def add(self, partition: int, offset: int, timestamp_ms: int) -> None:
        """Add a record, without fragments yet."""
        end = len(self._fragments)
        self._rows.append(Row(partition, offset, timestamp_ms, end, end))
        self._held_bytes += RECORD_BYTES

    def append(self, fragment: Fragment) -> None:
        """Add a fragment to the last record. Raises ValueError if an id has not its length."""
        if len(fragment.trace_id) != 16 or len(fragment.span_ids) != 8 * fragment.spans or len(fragment.missing) % 8:
            raise ValueError("a trace id has 16 bytes, and the id of each span 8")
        self._rows[-1].stop += 1
        self._fragments.append(fragment)
        self._held_bytes += FRAGMENT_BYTES + fragment.owned_bytes()

    # -- reading

    def record(self, number: int) -> Row:
        """A record's numbers. Compiled, only C can call this, and ``fragment`` too."""
        return self._rows[number]

    def fragment(self, at: int) -> Fragment:
        """A fragment's numbers."""
        return self._fragments[at]

    def trace_id(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].trace_id

    def payload(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].payload

    def facts(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].facts

    def forced(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].forced

    def span_ids(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].span_ids

    def missing(self, at: int) -> bytes:
        """See `Fragment`."""
        return self._fragments[at].missing

    def held_bytes(self) -> int:
        """Memory in bytes, with all that it owns."""
        return self._held_bytes

    def place(self, number: int) -> tuple[int, int, int]:
        """Partition, offset and timestamp (ms) of a record."""
        row = self._rows[number]
        return row.partition, row.offset, row.timestamp_ms

    def fragments(self, number: int) -> tuple[Fragment, ...]:
        """The fragments of a record as objects. Compiled, it copies them: it is for few records."""
        row = self._rows[number]
        return tuple(self._fragments[row.first : row.stop])

    def pieces(self, number: int) -> list[tuple[bytes, bytes]]:
        """Trace id and payload of each fragment of a record."""
        return [(each.trace_id, each.payload) for each in self.fragments(number)]

    def runs(self) -> list[tuple[int, int, int]]:
        """The records in runs of one partition with ascending offsets, in their order: partition, first, and where it stops."""
        found: list[tuple[int, int, int]] = []
        rows, first = self._rows, 0
        for number in range(1, len(rows) + 1):
            before = rows[number - 1]
            if (
                number == len(rows)
                or rows[number].partition != before.partition
                or rows[number].offset <= before.offset
            ):
                found.append((before.partition, first, number))
                first = number
        return found
