"""What could not be handled is put aside whole, so that it can be found, mended and sent again."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Protocol

import structlog
import trio
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tss.core import measures
from tss.core.health import DEAD_LETTERS, Health, State
from tss.core.measures import Meter
from tss.core.record import DeadLetter
from tss.edges import logs
from tss.edges.breaker import Breaker
from tss.edges.files.lines import CannotOpen, LineFile
from tss.edges.kafka_client.client_log import logger
from tss.settings import DeadLetter as DeadLetterSettings

log = structlog.get_logger()

PAUSES_SECS = (0.5, 2.0)  # between three tries: a broker's election or a full disk's rotation, not an outage
DELIVERY_SECS = 3.0  # for one try at the topic
# Who puts letters reads, or delivers. All tries together take no longer, and then the log has the letters.
TRIES_SECS = 4.0
PROBE_SECS = 1.0  # the same of the one try that is made now and then while the place is away
LOG_SECS = 5.0  # for the log to write a part of a letter
LOG = "log"
TO_THE_LOG = "they go to the log, since their place does not take them"
# Each line of the file, `#` being a digit: a time alone is how other services' logs begin, too (Go's slog).
BEGINS = b'{"time":"####-##-##T##:##:##.###+00:00","reason":"'
# Container runtimes cut a log's lines at 16 KiB, and so does `logs` with any text; quotes in here count twice in JSON.
LOG_PART_CHARS = 7000

Clock = Callable[[], datetime]


class NotKept(Exception):
    """Some letters could not be put where they should be; those are in `letters`.

    ``for_good``: it is these letters that are refused. Trying again is of no use, and says nothing of the place.
    """

    def __init__(self, letters: Sequence[DeadLetter], detail: str, *, for_good: bool = False) -> None:
        super().__init__(detail)
        self.letters = letters
        self.for_good = for_good


class Place(Protocol):
    """Where letters are put."""

    name: str

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Blocking; called from one thread at a time. Raises NotKept with those that were not kept."""

    def close(self) -> None:
        """Blocking, briefly."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def as_object(letter: DeadLetter, now: datetime) -> dict[str, object]:
    """A letter as the object of a line in the file. Bytes are base64: a key or a header may be anything."""
    moment = None if letter.timestamp_ms is None else _rfc3339(letter.timestamp_ms)
    return {
        "time": now.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": moment,
        "key": _base64(letter.key),
        "headers": [[name, _base64(value)] for name, value in letter.headers],
        "trace_id": letter.trace_id or None,
        "destination": letter.destination or None,
        "payload": _base64(letter.payload),
    }


def line(letter: DeadLetter, now: datetime) -> str:
    """A letter as a line of JSON, in ASCII, without the line's end."""
    return json.dumps(as_object(letter, now), separators=(",", ":"))


def _rfc3339(timestamp_ms: int) -> str | int:
    """A record may bear any timestamp; one that no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return timestamp_ms


class LetterFile:
    """A JSON object a line."""

    name = "file"

    def __init__(self, path: str, clock: Clock = utc_now) -> None:
        """Raises CannotOpen (an OSError)."""
        self._clock = clock
        self._path = path
        self._file = LineFile(path, begins=BEGINS, fsync=True)

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        now = self._clock()
        lines = "".join(line(letter, now) + "\n" for letter in letters)
        try:
            self._file.append(lines.encode("ascii"))
        except OSError as error:
            raise NotKept(letters, f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()


# A producer warns of each property that is a consumer's.
_CONSUMERS = (
    "group.", "partition.assignment.", "session.timeout.", "heartbeat.", "coordinator.", "max.poll.", "enable.auto.",
    "auto.", "queued.min.", "queued.max.", "fetch.", "max.partition.", "offset.store.", "isolation.",
    "enable.partition.", "check.crcs", "consume.", "statistics.",
)  # fmt: skip
# What the brokers say of a record, and not of the topic.
_OF_A_LETTER = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE})
_PRODUCER: Mapping[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    "delivery.timeout.ms": round(DELIVERY_SECS * 1000),
    "linger.ms": 5,
    # A whole trace may be larger than any record. What is too large is for the broker to say, of the compressed size.
    "message.max.bytes": 128 * 1024 * 1024,
    "compression.type": "zstd",
}


class LetterTopic:
    """A record a letter: key, value and headers of the original, and headers that say why it is here."""

    name = "topic"

    def __init__(self, topic: str, connection: Mapping[str, object]) -> None:
        """``connection`` holds librdkafka's properties of the brokers and how to speak to them."""
        self._topic = topic
        known = {name: value for name, value in connection.items() if not name.startswith(_CONSUMERS)}
        self._config = {**known, **_PRODUCER, "error_cb": self._hear, "logger": logger()}
        self._producer: Producer | None = None
        self._heard = ""  # what the client last said of the brokers

    def _hear(self, error: KafkaError) -> None:
        self._heard = f" ({error})"

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        producer = self._producer or Producer(self._config)
        self._producer, self._heard = producer, ""
        pending = dict(enumerate(letters))
        troubles: list[KafkaError] = []
        for number, letter in enumerate(letters):
            self._produce(producer, letter, partial(_note, pending, troubles, number), troubles)
        deadline = time.monotonic() + DELIVERY_SECS * 1.2  # librdkafka should have given up by then
        while pending and len(troubles) < len(pending) and time.monotonic() < deadline:
            producer.poll(0.1)
        if pending:
            detail = str(troubles[0]) if troubles else f"no answer within {DELIVERY_SECS:g} s"
            left = [*pending.values()]
            # Nothing of this try may still go out later; and a producer with a gap in its sequence is better left.
            producer.purge()
            producer.poll(0)
            self._producer = None
            for_good = len(troubles) >= len(left) and all(each.code() in _OF_A_LETTER for each in troubles)
            raise NotKept(left, f"topic {self._topic}: {detail}{self._heard}", for_good=for_good)

    def _produce(
        self,
        producer: Producer,
        letter: DeadLetter,
        on_delivery: Callable[[KafkaError | None, Message], None],
        troubles: list[KafkaError],
    ) -> None:
        headers: list[tuple[str, str | bytes | None]] = [*letter.headers, *_reasons(letter)]
        try:
            producer.produce(
                self._topic, value=letter.payload, key=letter.key, headers=headers, on_delivery=on_delivery
            )
        except KafkaException as error:
            troubles.append(error.args[0])
        except BufferError:
            troubles.append(KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001  # confluent-kafka's public constant

    def close(self) -> None:
        self._producer = None


def _note(
    pending: dict[int, DeadLetter], troubles: list[KafkaError], number: int, error: KafkaError | None, _message: Message
) -> None:
    if error is None:
        pending.pop(number, None)
    else:
        troubles.append(error)


def _reasons(letter: DeadLetter) -> list[tuple[str, bytes]]:
    source = {
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset, "timestamp": letter.timestamp_ms,
        "trace_id": letter.trace_id, "destination": letter.destination,
    }  # fmt: skip
    known = {key: value for key, value in source.items() if value is not None and value != ""}
    return [
        ("tss-reason", letter.reason.encode()),
        ("tss-detail", letter.detail.encode("utf-8", "backslashreplace")),
        ("tss-source", json.dumps(known, separators=(",", ":")).encode("ascii")),
    ]


class LetterLog:
    """The daemon's own log, at error level: the line the file would have, whole, in parts to be put together again.

    Other lines are dropped while nobody reads the log. A letter is not: it is kept once the log has written it.
    """

    name = LOG

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        now = self._clock()
        for number, letter in enumerate(letters):
            if not self._keep(letter, now):
                raise NotKept(letters[number:], "the log: nobody reads it")

    def _keep(self, letter: DeadLetter, now: datetime) -> bool:
        text = line(letter, now)
        about = {"reason": letter.reason, "detail": letter.detail, "letter": sha256(text.encode()).hexdigest()[:16]}
        starts = range(0, len(text), LOG_PART_CHARS)
        dropped = logs.dropped()
        for number, start in enumerate(starts, 1):
            # Part by part, for a letter may be larger than what may wait in the log.
            if not logs.flush(LOG_SECS):
                return False
            part = text[start : start + LOG_PART_CHARS]
            log.error("dead letter", **about, part=number, parts=len(starts), text=part)
        # A line of somebody else's that was dropped means another try, and a letter that is there twice.
        return logs.flush(LOG_SECS) and logs.dropped() == dropped

    def close(self) -> None:
        """Nothing is open."""


class DeadLetterOffice:
    """Puts letters into their place; what that does not take after three tries goes to the log. Nothing is lost.

    A place that takes nothing is left alone then: letters go to the log at once, and one put tries it now and then. No
    put waits longer for the place than `TRIES_SECS`. A letter whose try is still under way may be in both.
    """

    def __init__(
        self, place: Place, meter: Meter, limiter: trio.CapacityLimiter, health: Health, chance: random.Random
    ) -> None:
        """``limiter`` has one token: whoever calls the place holds it, be it a thread that nobody waits for any more."""
        self._place = place
        self._last_resort = LetterLog()
        self._meter = meter
        self._limiter = limiter
        self._log_limiter = trio.CapacityLimiter(1)  # a place that hangs must not keep letters from the log
        self._health = health
        self._breaker = None if place.name == LOG else Breaker(DEAD_LETTERS, TO_THE_LOG, health, chance)

    def __repr__(self) -> str:
        return f"<DeadLetterOffice to {self._place.name} {self._breaker or ''}>"

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them; returns once they are kept somewhere. Never raises."""
        left = letters if self._breaker is None else await self._try_place(letters, self._breaker)
        while left:  # there is no other place, and a letter that nobody has must not be settled (law 1)
            left, trouble = await self._try(left, self._last_resort, self._log_limiter)
            if trouble is not None:
                self._health.down(DEAD_LETTERS, f"not taken, and records wait for that: {trouble}")
            await trio.sleep(PAUSES_SECS[-1] if left else 0)
        self._are_kept()

    def _are_kept(self) -> None:
        component = self._health.components.get(DEAD_LETTERS)
        if component is not None and component.state is State.DOWN:
            if self._breaker is not None and self._breaker.is_open:
                self._health.degraded(DEAD_LETTERS, TO_THE_LOG)
            else:
                self._health.up(DEAD_LETTERS)

    async def _try_place(self, letters: Sequence[DeadLetter], breaker: Breaker) -> Sequence[DeadLetter]:
        """Returns those that the place did not keep."""
        is_probe = breaker.is_open
        if is_probe and (self._limiter.borrowed_tokens or not breaker.takes_probe()):
            return letters
        secs, pauses = (PROBE_SECS, ()) if is_probe else (TRIES_SECS, PAUSES_SECS)
        left, trouble = letters, NotKept(letters, f"no answer within {secs:g} s")
        with trio.move_on_after(secs):
            for pause in (0.0, *pauses):
                await trio.sleep(pause)
                if breaker.is_open and not is_probe:  # somebody else has found out meanwhile
                    return left
                left, failure = await self._try(left, self._place, self._limiter)
                trouble = failure or trouble
                if not left or trouble.for_good:  # it has answered
                    breaker.works()
                    return left
        if len(left) == len(letters):  # who took some of them is not away
            breaker.fails(str(trouble))
        return left

    async def _try(
        self, letters: Sequence[DeadLetter], place: Place, limiter: trio.CapacityLimiter
    ) -> tuple[Sequence[DeadLetter], NotKept | None]:
        """One try; returns those that were not kept, and why."""
        trouble: NotKept | None = None
        try:
            # Abandoned when cancelled, for a disk may hang for good, and neither reading nor a stop waits for that.
            await trio.to_thread.run_sync(partial(place.keep, letters), limiter=limiter, abandon_on_cancel=True)
        except NotKept as error:
            trouble = error
        except Exception as error:  # noqa: BLE001  # whatever it is, the letters must not go with it
            trouble = NotKept(letters, f"{type(error).__name__}: {error}")
        left = trouble.letters if trouble else ()
        if trouble:
            log.warning("dead letters not taken", place=place.name, letters=len(left), detail=str(trouble))
        lost = {id(letter) for letter in left}
        self._count([letter for letter in letters if id(letter) not in lost], place.name)
        return left, trouble

    def _count(self, letters: Sequence[DeadLetter], place: str) -> None:
        for reason, number in Counter(letter.reason for letter in letters).items():
            self._meter.count(measures.DEAD_LETTERS, number, reason, place)


@asynccontextmanager
async def open_dead_letters(
    settings: DeadLetterSettings, connection: Mapping[str, object], meter: Meter, health: Health
) -> AsyncIterator[DeadLetterOffice]:
    """Raises UnusableFile when the file that the settings name cannot be used. ``connection`` is only used for a topic."""
    limiter = trio.CapacityLimiter(1)
    opening = partial(_open_place, settings, connection)
    place = await trio.to_thread.run_sync(opening, limiter=limiter, abandon_on_cancel=True)
    try:
        yield DeadLetterOffice(place, meter, limiter, health, random.Random())
    finally:
        place.close()


def _open_place(settings: DeadLetterSettings, connection: Mapping[str, object]) -> Place:
    match settings.type:
        case "topic":
            return LetterTopic(settings.topic, connection)
        case "log":
            return LetterLog()
    try:
        return LetterFile(settings.path)
    except CannotOpen as error:
        if settings.path != DeadLetterSettings().path:
            raise
        # Nobody asked for this file, and a container with a read-only root has nowhere for it: the log has.
        log.warning("dead letters will go to the log; set deadLetter.path or deadLetter.topic", reason=str(error))
        return LetterLog()
