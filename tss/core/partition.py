"""One assigned partition: its stream time, its deadlines and its ledger."""

from __future__ import annotations

import math
from typing import Any

import attrs

from tss.core.output_traces import OutputTrace, ProduceTimes
from tss.core.parked import ParkingCheckpoint, Shelf
from tss.core.progress import Progress
from tss.core.replay import SECOND_BYTES, Replay
from tss.core.stamps import Stamps
from tss.core.streamtime import NO_TIME, Ring
from tss.core.timeline import NEVER, Entry, Timeline

MARGIN_SECS = 2  # of the log, from a change of the ruleset until it is in force: a commit takes milliseconds
MOST_MARGIN_SECS = 86_400
# The replay's seconds may be ahead of the records, and traces that closed earlier are read again too.
RULES_SLACK_SECS = 3600
UNKNOWN_END = 1 << 62  # every record counts as older than the assignment, until `reached` is called


@attrs.frozen
class Commit:
    """The offset to commit, and the metadata beside it: where the next owner begins to read (see ``Replay``).

    The next owner reads the output topic from the time ``since_ms``, to find the traces with records from ``offset``
    on. ``since_ms`` is None if traces are not sent to a topic.
    """

    offset: int
    replay_from: int
    since_ms: int | None = None
    parked: ParkingCheckpoint | None = None  # if Redis no longer has this state, reading begins at its floor
    topic: str = attrs.field(default="", eq=False)  # the topic's id; empty if unknown
    rules: tuple[Entry, ...] = ()  # the partition's `Timeline`


class Partition(Progress):
    """The state of one assignment; a new assignment of the same partition is a new object.

    Reading may begin below ``start``, the committed low water. The records below it are settled. They are read again
    only to rebuild the decisions about their traces (`Replay`). They are never held and never exported.
    """

    __slots__ = (
        "_stamped_second",
        "committed",
        "committed_place",
        "committed_rules",
        "delivered",
        "delivered_bytes",
        "gone",
        "horizon",
        "horizon_ms",
        "lag",
        "margin_secs",
        "next_look",
        "position",
        "produced",
        "remembered_from",
        "replaced",
        "replay",
        "revoked",
        "ring",
        "ruled_to",
        "rules",
        "sampler",
        "sampler_from",
        "settled_second",
        "shelf",
        "stamps",
        "start",
        "topic",
        "unclocked",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        start: int,
        max_skew_ms: int,
        *,
        committed: int | None = None,
        replay_from: int | None = None,
        replay_secs: int = 0,
        delivered: dict[bytes, OutputTrace] | None = None,
        since_ms: int | None = None,
        shelf: Shelf | None = None,
        end: int | None = None,
        topic: str = "",
        rules: Timeline | None = None,
        settled_second: int = NO_TIME,
    ) -> None:
        super().__init__(id, start, max_skew_ms)
        self.start = start
        self.replay = Replay(start, start if replay_from is None else replay_from, replay_secs, self.time)
        # The partition's end at the assignment. An earlier owner may have decided the traces in the records below it.
        self.horizon = UNKNOWN_END if end is None else max(end, start)
        self.horizon_ms = NO_TIME  # the stream time when the horizon was reached; NO_TIME before
        self.committed = committed  # the committed offset; None if the group never committed, or to force a commit
        self.committed_place: ParkingCheckpoint | None = None  # in the metadata of this assignment's last commit
        self.shelf = shelf  # the notes about parked traces; None while no trace can be parked
        self.ring = Ring()
        self.unclocked: dict[Any, None] = {}  # open traces without a deadline: the partition has no stream time yet
        self.position = 0  # the offset after the last record handed over by the source
        self.lag = 0  # records after the position, when it was last measured
        self.remembered_from = 0  # the number of the first closing whose decision is remembered
        self.revoked = False
        self.topic = topic  # its id; empty if the brokers do not give it
        self.replaced = False  # the topic was deleted and created again: these records cannot be read again
        self.gone = False  # no trace of this partition may be sent any more, and no offset committed
        # The traces that the output topic has, each until the position has passed its last record. They are not in the
        # decision memory: it could evict them at its limit, and they would be produced twice.
        self.delivered = delivered or None
        self.delivered_bytes = _bytes_of(self.delivered)
        self.next_look = 0  # at this offset the buffer calls ``forget_delivered`` again
        # Which ruleset decides what closes when. What closes at ``ruled_to`` or later waits: Kafka has not yet taken a commit
        # that names its ruleset, so after a crash the next owner would decide by another.
        self.rules = rules or Timeline()
        self.ruled_to = NEVER
        self.committed_rules = self.rules.entries  # beside the last commit that Kafka took
        self.sampler: Any = None  # decides what closes at ``sampler_from`` or later; None: not known
        self.sampler_from = NEVER
        # An earlier owner may have decided what closed before this second; NO_TIME: there was none.
        self.settled_second = settled_second
        self.margin_secs = MARGIN_SECS
        self.produced = ProduceTimes()
        if delivered and since_ms is not None:  # a next owner needs them too until the low water has passed them
            self.produced.note(since_ms, max([known.last for known in delivered.values()]))
        self.stamps = Stamps()
        self._stamped_second = NO_TIME  # the last second in ``stamps``

    def __repr__(self) -> str:
        return f"<Partition {self.id} {self.ledger} {self.time} in flight {self.in_flight} revoked {self.revoked}>"

    def mark(self, offset: int) -> None:
        """Note the offset of a record that was read. Stream time already includes its timestamp."""
        self.replay.read(offset)
        if self.horizon_ms < 0 and offset >= self.horizon:
            self.horizon_ms = self.time.now_ms
        second = self.time.record_ms // 1000
        if second > self._stamped_second:
            self._stamped_second = second
            self.stamps.note(second, offset)

    def reached(self) -> None:
        """Note that the end was reached: all later records are newer than the assignment."""
        self.replay.read_all()
        if self.horizon_ms < 0:
            self.horizon = min(self.horizon, self.ledger.next)
            self.horizon_ms = self.time.now_ms

    def change_rules(self, fingerprint: str, *, commits: bool) -> None:
        """From a second on that the log has not reached, another ruleset decides. ``commits``: Kafka has to know first."""
        second = max(self.time.now_ms // 1000, self.settled_second) + 1
        if commits:
            second += self.margin_secs
            self.margin_secs = min(
                2 * self.margin_secs, MOST_MARGIN_SECS
            )  # a reader of a backlog passes hours in a second
        self.rules = self.rules.then(second, fingerprint)
        if commits:
            self.ruled_to = self.rules.first_missing(self.committed_rules)

    def took(self, rules: tuple[Entry, ...]) -> None:
        """Kafka has taken a commit with these entries."""
        self.committed_rules = rules
        self.ruled_to = self.rules.first_missing(rules)
        if self.ruled_to == NEVER:
            self.margin_secs = MARGIN_SECS

    def parked(self, trace_id: bytes, first_offset: int) -> None:
        """Note that a trace was parked: the next owner takes it over from Redis and does not read it again."""
        self.replay.parked(trace_id)
        if self.shelf is not None:
            self.shelf.put(trace_id, first_offset)

    def oldest_secs(self) -> float | None:
        """The time of the oldest record that is not settled, in seconds since the epoch; None if all are settled.

        It is the largest timestamp up to that record, because retention depends on it. If that record has not been read
        yet, it is the largest timestamp read so far. NaN if no record had a timestamp.
        """
        low_water = self.ledger.low_water
        if low_water == self.ledger.next and not self.lag and self.position <= low_water:
            return None
        second = self.stamps.second_at(low_water)
        return math.nan if second is None else float(second)

    def forget_delivered(self, offset: int) -> None:
        """Forget traces in the output topic whose records are all below this offset. The position has passed them."""
        if self.delivered is not None:
            self.delivered = {id: known for id, known in self.delivered.items() if known.last >= offset} or None
            self.delivered_bytes = _bytes_of(self.delivered)

    def commit(self, now_ms: int | None = None) -> Commit:
        """The commit that is allowed now. ``now_ms`` is the wall clock; None if traces are not sent to a topic."""
        low_water = self.ledger.low_water
        self.stamps.forget_below(low_water)
        since_ms = None if now_ms is None else self.produced.since_ms(low_water, now_ms)
        place = None if self.shelf is None else self.shelf.checkpoint(low_water)
        begin = self.replay.begin(low_water)
        self.rules = self.rules.since(self._decided_from(low_water))
        return Commit(low_water, begin, since_ms, place, self.topic, self.rules.entries)

    def _decided_from(self, low_water: int) -> int:
        """The next owner decides nothing again that closed before this second."""
        if self.replay.window:
            return self.replay.window - RULES_SLACK_SECS
        return (self.stamps.second_at(low_water) or 0) - RULES_SLACK_SECS

    @property
    def held_bytes(self) -> int:
        """The memory in bytes of the ledger, and of the notes about where the next owner begins to read."""
        stamps = SECOND_BYTES * len(self.stamps)
        return self.ledger.bytes + stamps + self.replay.held_bytes + self.produced.held_bytes

    @property
    def shelf_bytes(self) -> int:
        """The memory in bytes of the notes about parked traces."""
        return 0 if self.shelf is None else self.shelf.held_bytes


def _bytes_of(delivered: dict[bytes, OutputTrace] | None) -> int:
    return 0 if delivered is None else sum([known.held_bytes for known in delivered.values()])
