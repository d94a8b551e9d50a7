"""The first stage, for input that is not keyed: splits its records by trace and writes them keyed, each exactly once.

Steps follow each other: a poll, then the transactions with its records, then the next poll. Rebalances happen only inside a
poll, so no transaction is under way during one, and the records in hand are those of one or two polls.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.alignment import ReadRecord, ends_of, still_ours
from tss.core.deadletter import DeadLetter
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected, Retrying, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.headers import UNREADABLE_HEADERS
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.otlp import join
from tss.core.polled import Polled
from tss.core.throttle import LogThrottle
from tss.state.deadletters import DeadLetters, InputDeadLetters
from tss.state.inputs import Inputs

log = structlog.get_logger()

COMPONENT = "rekey"
RECORDS_AT_ONCE = 1_000  # in one transaction; one poll reads no more
RETRYING = Retrying(0.1, max_secs=5.0)
MAKE_AGAIN_SECS = 2.0
MISSING = frozenset({"unknown_topic_or_part", "unknown_topic", "unknown_topic_id"})  # reasons of `KeyedTopic.write`
QUICK_TRIES = 2  # a rebalance or a lost answer is no reason to call the topic down


class UnkeyedInput(Protocol):
    """The input topic. This stage has a consumer group of its own."""

    async def poll(self) -> Polled:
        """New records with their headers. Rebalances call `Inputs` inside this call.

        Raises CannotConnect when the broker refuses for good.
        """

    async def pause(self) -> None:
        """Stop fetching. ``poll`` then only keeps the membership alive."""

    async def resume(self) -> None:
        """Go on fetching."""

    async def hold(self, ids: Collection[int]) -> None:
        """Stop fetching these partitions, and fetch all others."""

    def finish(self) -> None:
        """There will be no more polls."""


class KeyedTopic(Protocol):
    """The topic between the stages."""

    async def make(self) -> str:
        """Create it if it is missing. Returns the reason if it is still missing, else "". Raises WrongSetting."""

    async def write(self, reads: Sequence[ReadRecord], ends: Mapping[int, int]) -> Outcome:
        """Write all spans of these records in one transaction, with the offset to go on from for each partition. Raises
        nothing."""


async def make(topic: KeyedTopic, stop: trio.Event, health: Health) -> None:
    """Create the keyed topic if it is missing, for as long as it takes: the brokers or the input topic may not be there yet."""
    health.starting(COMPONENT)
    told = ""
    while not stop.is_set() and (reason := await topic.make()):
        health.down(COMPONENT, reason)
        if reason != told:
            log.warning(
                "the keyed topic (kafka.rekey.topic) cannot be created yet; it is tried every 2 s", reason=reason
            )
            told = reason
        with trio.move_on_after(MAKE_AGAIN_SECS):
            await stop.wait()
    health.starting(COMPONENT, "nothing written yet")


async def run(
    source: UnkeyedInput,
    inputs: Inputs,
    topic: KeyedTopic,
    dead_letters: DeadLetters,
    stop: trio.Event,
    meter: Meter,
    health: Health,
    chance: random.Random,
) -> None:
    """Until told to stop. Records that are read and not written then are read again."""
    unhandled = InputDeadLetters(
        dead_letters,
        meter,
        "records could not be split by trace and were dead-lettered",
        check="kafka.encoding, kafka.rekey.topic's max.message.bytes, and the producers of the input topic",
    )
    rekeyer = _Rekeyer(source, inputs, topic, unhandled, stop, meter, health, chance)
    while not stop.is_set():
        wall_ms = await rekeyer.read()
        while not stop.is_set() and (reads := inputs.alignment.take(RECORDS_AT_ONCE, wall_ms)):
            inputs.in_hand = reads
            await rekeyer.write(reads)
            inputs.in_hand = ()
            inputs.written(reads)
        await rekeyer.hold()
    source.finish()


@attrs.define
class _Rekeyer:
    _source: UnkeyedInput
    _inputs: Inputs
    _topic: KeyedTopic
    _unhandled: InputDeadLetters
    _stop: trio.Event
    _meter: Meter
    _health: Health
    _chance: random.Random
    _held: set[int] = attrs.field(factory=set)
    _letters: list[DeadLetter] = attrs.field(factory=list)  # that have to be kept before anything is written
    _pauses: int = 0  # that have not ended: writing and dead letters each have theirs
    _wall_ms: int = 0  # of the last poll
    _trouble: LogThrottle = attrs.field(factory=LogThrottle)
    _headers_telling: LogThrottle = attrs.field(factory=LogThrottle)
    _missing: LogThrottle = attrs.field(factory=LogThrottle)
    _told: str = ""  # the reason last logged

    async def read(self) -> int:
        """Poll once; returns the wall time (ms). A record that cannot be read is dead-lettered before it can be written, since
        its offset is committed with that write."""
        await self.poll()
        await self._keep_letters()
        return self._wall_ms

    async def poll(self) -> None:
        polled = await self._source.poll()
        self._wall_ms = polled.wall_ms
        alignment = self._inputs.alignment
        for number, headers in enumerate(polled.headers):
            alignment.add(polled.records, number, headers, polled.wall_ms)
            if headers and headers[0][0] == UNREADABLE_HEADERS:
                self._tell_of_headers(polled.records.place(number), headers[0][1])
        alignment.reach(polled.ends)
        self._inputs.show_lags(polled.lags)
        self._letters += polled.dead_letters

    async def _keep_letters(self) -> None:
        """Until none waits. The polls meanwhile may bring more."""
        while self._letters:
            letters, self._letters = self._letters, []
            await self._unhandled.keep(letters, self)

    async def pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            await self._source.pause()

    async def resume(self) -> None:
        self._pauses -= 1
        if not self._pauses:
            await self._source.resume()
            self._inputs.alignment.hear(self._wall_ms)  # nobody was silent, nobody could be heard

    async def hold(self) -> None:
        """Stop reading partitions that are ahead of others. Without it, memory would have no limit."""
        held = self._inputs.alignment.hold()
        if held != self._held:
            await self._source.hold(held)
            self._held = held
            self._meter.set(measures.REKEY_AHEAD, len(held))

    async def write(self, reads: list[ReadRecord]) -> None:
        """Until the topic has them, their partitions are revoked, or the stop is asked for."""
        tries, paused = 0, False
        while reads and not self._stop.is_set():
            outcome = await self._topic.write(reads, ends_of(reads))
            self._count(reads, outcome)
            if isinstance(outcome, Accepted):
                break
            if isinstance(outcome, Undeliverable):
                await self._refused(reads, outcome)
                break
            tries += 1
            self._tell(outcome, tries)
            if not paused:
                await self.pause()
                paused = True
            if outcome.reason in MISSING:
                await self._make_again()
            await self._wait(RETRYING.most_secs(tries))
            reads = still_ours(reads)
        if paused:
            await self.resume()
            if not self._stop.is_set():
                self._inputs.alignment.hear(await self.read())
        self._health.up(COMPONENT)

    async def _make_again(self) -> None:
        """Somebody deleted the keyed topic: create it again."""
        try:
            reason = await self._topic.make()
        except WrongSetting as error:  # no reason to stop: reading waits, and an operator may create it
            reason = str(error)
        if reason and self._missing.add(1, trio.current_time()):
            log.warning(
                "the keyed topic (kafka.rekey.topic) is gone and could not be made again; create it", reason=reason
            )

    async def _wait(self, most_secs: float) -> None:
        """Wait, and poll meanwhile: the group expects it, and a rebalance may be the reason that the write failed."""
        until = trio.current_time() + self._chance.uniform(most_secs / 2, most_secs)
        while not self._stop.is_set():
            await self.read()
            if trio.current_time() >= until:
                return
            await trio.sleep(0.05)

    async def _refused(self, reads: list[ReadRecord], refused: Undeliverable) -> None:
        """Halve the batch until the record is found. Keep the order, because each write commits its offsets."""
        if len(reads) > 1:
            half = len(reads) // 2
            await self.write(reads[:half])
            await self.write(still_ours(reads[half:]))
            return
        read = reads[0]
        letter = DeadLetter(
            reason=refused.reason,
            detail=refused.detail,
            payload=join(payload for _, payload in read.pieces),
            topic=self._inputs.topic,
            partition=read.partition.id,
            offset=read.offset,
            timestamp_ms=read.timestamp_ms,
            headers=read.headers,
        )
        self._letters.append(letter)
        await self._keep_letters()  # with polls, so that the partition may have gone meanwhile
        await self.write(still_ours([attrs.evolve(read, pieces=())]))

    def _tell_of_headers(self, place: tuple[int, int, int], reason: bytes | None) -> None:
        """The spans of the record go on. The records made of it have one header that says that the others are unreadable."""
        self._meter.count(measures.REKEY_UNREADABLE_HEADERS)
        if count := self._headers_telling.add(1, trio.current_time()):
            log.warning(
                "records are split by trace without their headers, which cannot be read",
                count=count,
                reason=(reason or b"").decode("utf-8", "replace"),
                topic=self._inputs.topic,
                partition=place[0],
                offset=place[1],
            )

    def _count(self, reads: Sequence[ReadRecord], outcome: Outcome) -> None:
        accepted = isinstance(outcome, Accepted)
        self._meter.count(measures.REKEY_TRANSACTIONS, 1, "committed" if accepted else "failed")
        if accepted:
            self._meter.count(measures.REKEY_RECORDS, len(reads))
            self._meter.count(measures.REKEY_FRAGMENTS, sum(len(read.pieces) for read in reads))

    def _tell(self, outcome: Again | Misconfigured | Rejected, tries: int) -> None:
        if tries > QUICK_TRIES or isinstance(outcome, Misconfigured):
            self._health.down(COMPONENT, f"{outcome.reason}: {outcome.detail}")
        if self._trouble.add(1, trio.current_time()) or outcome.reason != self._told:
            self._told = outcome.reason
            log.warning("the keyed topic did not take a batch", reason=outcome.reason, detail=outcome.detail)
