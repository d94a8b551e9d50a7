"""One transactional producer: everything that happens on its own thread. A batch of entries is one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, Queue
from threading import Lock, Thread
from typing import Any, Protocol

import attrs
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Undeliverable
from tss.core.errors import CannotConnect
from tss.core.partition import Commit
from tss.edges.kafka_client.errors import TOPIC_MISSING, cause_of, is_fatal, said
from tss.edges.kafka_client.offset_metadata import to_metadata
from tss.edges.kafka_output.output_records import Covers, Headers, RecordTooLarge
from tss.edges.kafka_output.readback import MARGIN_MS, Known, Readback

log = structlog.get_logger()

# Each call of the client that waits for a broker. What is not done by then is aborted and sent again; a broker that
# works answers in milliseconds.
CALL_SECS = 5.0
COMMIT_SECS = 15.0  # but of a commit it is better to hear than to have to look

_OURS = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_MSG", "INVALID_TIMESTAMP"})
_GROUP_MOVED = frozenset(
    {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID", "STALE_MEMBER_EPOCH", "REBALANCE_IN_PROGRESS"}
)
_SETTING = TOPIC_MISSING | {
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "INVALID_TRANSACTION_TIMEOUT", "UNSUPPORTED_VERSION",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT", "POLICY_VIOLATION", "NOT_ENOUGH_REPLICAS",
}  # fmt: skip
_PURGED = frozenset({"_PURGE_QUEUE", "_PURGE_INFLIGHT"})
_FENCED = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_TXN_STATE"})


class Entry(Protocol):
    """What is written whole: the spans of one trace."""

    @property
    def trace_id(self) -> bytes:
        """Its key."""

    @property
    def covers(self) -> Covers:
        """What it was made of."""

    @property
    def stamp_ms(self) -> int | None:
        """Its records' time; None: that of the transaction."""


Encode = Callable[[Any], Sequence[tuple[bytes, Headers]]]
"""An entry (of the one kind that its caller writes) to values with their headers. Raises RecordTooLarge."""
Encoded = tuple[Entry, Sequence[tuple[bytes, Headers]]]


@attrs.frozen
class Transaction:
    """What one transaction has to do: the entries, and the offsets of the partitions that they are of."""

    outputs: Sequence[Entry]
    commits: Mapping[int, Commit]
    stamp_ms: int  # no record of it is older
    membership: bytes  # of the consumer group; what is of an assignment that has ended is refused by it


@attrs.frozen
class Committed:
    """An entry of a transaction that was committed, without what it was encoded from."""

    trace_id: bytes
    covers: Covers
    stamp_ms: int | None


@attrs.define
class InDoubt:
    """A transaction of which nobody knows whether it was committed."""

    since_ms: int
    wanted: Mapping[int, int]


class TransactionalProducer:
    """Used by one thread at a time, but for `prepare`."""

    def __init__(self, config: Mapping[str, object], topic: str, encode: Encode, readback: Readback) -> None:
        self._config = dict(config)
        self._topic = topic
        self._encode = encode
        self._readback = readback
        self._producer: Producer | None = None
        self._making = Lock()  # the source's thread may ask for it too, before it reads the topic back
        self._heard = ""  # the client's last complaint
        self._failed: KafkaError | None = None  # the first record that was not delivered
        self._in_doubt: InDoubt | None = None
        self._before: list[Encoded] = []  # what the last transaction that was committed had
        self.held_bytes = 0  # by that, for nobody else holds it any more
        self._before_ms = 0

    def __repr__(self) -> str:
        return f"<TransactionalProducer of {self._config['transactional.id']} on {self._topic}, doubt {self._in_doubt}>"

    def prepare(self) -> None:
        """End what a former process of the same name left under way, so that nobody has to wait for its timeout."""
        try:
            self._ready()
        except (KafkaException, SystemError) as error:
            log.warning("no transactions yet", topic=self._topic, reason=self._said(_cause(error)))

    def run(self, transaction: Transaction) -> Outcome:
        """All of it or none."""
        try:
            encoded: list[Encoded] = [(output, self._encode(output)) for output in transaction.outputs]
        except RecordTooLarge as error:
            return Undeliverable("too_large", str(error))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with these bytes, it is theirs alone
            return Undeliverable("unencodable", f"{type(error).__name__}: {error}"[:400])
        try:
            producer = self._ready()
            if self._in_doubt is not None:
                there = self._found(self._in_doubt)
                self._keep([each for each in self._before if not _is_in(each[0], there)])
                encoded = [*self._before, *(each for each in encoded if not _is_in(each[0], there))]
                if not encoded:
                    self._in_doubt = None
                    return Accepted()
        except (KafkaException, SystemError) as error:
            return self._outcome(_cause(error))
        except CannotConnect as error:
            return Again("outcome_unknown", str(error))
        trouble = self._send(producer, encoded, transaction)
        if trouble is None:
            outcome = self._commit(producer, transaction)
            if isinstance(outcome, Accepted):
                self._before_ms, self._in_doubt = transaction.stamp_ms, None
                self._keep(encoded)
            return outcome
        self._abort(producer, trouble, transaction)
        return self._outcome(trouble)

    def _keep(self, encoded: Sequence[Encoded]) -> None:
        """Until the next transaction is committed: its markers may be needed to end this one, or it may be asked for."""
        self._before = [(Committed(each.trace_id, each.covers, each.stamp_ms), values) for each, values in encoded]
        self.held_bytes = sum([_size(value, headers) for _, values in encoded for value, headers in values])

    def close(self) -> None:
        """What is under way is left to end by itself."""
        self._discard()

    # -- one transaction

    def _send(self, producer: Producer, encoded: Sequence[Encoded], transaction: Transaction) -> KafkaError | None:
        self._failed = None
        try:
            producer.begin_transaction()
            for output, values in encoded:
                key = output.trace_id.hex().encode()
                stamp_ms = transaction.stamp_ms if output.stamp_ms is None else output.stamp_ms
                for value, headers in values:
                    self._produce(producer, key, value, headers, stamp_ms)
            # Hear of records that are refused before the offsets: their reason is the better one.
            left = producer.flush(CALL_SECS)
            if refused := self._refused():
                return refused
            if left:
                return KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001  # confluent-kafka's public constant
            places = self._places(transaction.commits)
            _within(2 * CALL_SECS, producer.send_offsets_to_transaction, places, transaction.membership, CALL_SECS)
        except (KafkaException, SystemError) as error:
            return self._refused() or _cause(error)
        return None

    def _refused(self) -> KafkaError | None:
        return self._failed  # set by a callback

    def _produce(self, producer: Producer, key: bytes, value: bytes, headers: Headers, stamp_ms: int) -> None:
        while True:
            try:
                producer.produce(
                    self._topic,
                    value,
                    key,
                    headers=[*headers],
                    timestamp=stamp_ms,
                    on_delivery=self._delivered,
                )
            except BufferError:  # the queue is full: let some of it go
                producer.poll(0.05)
            else:
                return

    def _places(self, commits: Mapping[int, Commit]) -> list[TopicPartition]:
        topic = self._readback.consumed.topic
        return [
            TopicPartition(topic, id, commit.offset, metadata=to_metadata(commit)) for id, commit in commits.items()
        ]

    def _commit(self, producer: Producer, transaction: Transaction) -> Outcome:
        deadline = time.monotonic() + COMMIT_SECS
        while True:
            try:
                _within(2 * CALL_SECS, producer.commit_transaction, CALL_SECS)
            except (KafkaException, SystemError) as error:
                cause = _cause(error)
            else:
                return Accepted()
            if cause.txn_requires_abort() or not cause.retriable() or time.monotonic() > deadline:
                break
        # It may be there, and may yet come, even where an abort is asked for: the brokers may have done it and the answer
        # got lost. The next producer ends it one way or the other; then the topic tells.
        log.warning("a transaction ended without an answer; the topic will tell", topic=self._topic, reason=said(cause))
        self._in_doubt = self._doubt_about(transaction)
        self._discard()
        return self._outcome(cause)

    def _abort(self, producer: Producer, trouble: KafkaError, transaction: Transaction) -> None:
        """At once, for readers of the topic wait for it; and then a new producer, whose beginning ends what this could
        not. Kept, it would fail once more (measured: with a gap in its sequence, after a record that was too large)."""
        aborted = False
        # After a call that did not return there would be no end to this one either.
        if not trouble.fatal() and trouble.name() != "_TIMED_OUT":
            try:
                _within(2 * CALL_SECS, producer.abort_transaction, CALL_SECS)
                aborted = True
            except (KafkaException, SystemError) as error:
                log.debug("transaction not aborted", topic=self._topic, reason=said(_cause(error)))
        if not aborted or trouble.name() not in _OURS | _GROUP_MOVED:
            # Not asked to be committed, so it should not be there; but where a broker died meanwhile it was (measured).
            self._in_doubt = self._doubt_about(transaction)
        self._discard()

    def _doubt_about(self, transaction: Transaction) -> InDoubt:
        """With what was committed just before: its markers may be what the brokers forgot."""
        ids = {id for output, _ in self._before for id in output.covers} | transaction.commits.keys()
        since_ms = self._before_ms if self._before else transaction.stamp_ms
        if self._in_doubt is not None:
            since_ms = min(since_ms, self._in_doubt.since_ms)
        return InDoubt(since_ms, dict.fromkeys(ids, 0))

    # -- the producer

    def _ready(self) -> Producer:
        with self._making:
            if self._producer is None:
                self._heard = ""
                producer = Producer(self._config | {"error_cb": self._hear})
                # Of a topic that is missing librdkafka would say nothing for half a minute.
                topic = producer.list_topics(self._topic, timeout=CALL_SECS).topics[self._topic]
                if topic.error:
                    raise KafkaException(topic.error)
                _within(2 * CALL_SECS, producer.init_transactions, CALL_SECS)
                self._end_what_is_open(producer, [*topic.partitions])
                self._producer = producer
            return self._producer

    def _end_what_is_open(self, producer: Producer, ids: Sequence[int]) -> None:
        """Abort one transaction more, whose markers end whatever a former producer of this id began.

        That should be over by now, and mostly is. But brokers forget: a transaction that ends (its timeout is enough)
        while a partition has no leader is complete to its coordinator, and stays open in the partition, which it takes
        for deleted (seen with Apache Kafka 4.3.1: "likely deleted already and hence can be skipped"). Then readers are
        held up for ever, and the next transaction that is committed here would commit that one too.
        """
        if self._in_doubt is None:
            # Those of other replicas too: for them it does nothing. Where all is well nothing is written, for Tansu
            # shows what was aborted.
            ids = self._readback.under_way(ids)
        if not ids:
            return
        log.info("ending what may be open in the output topic", topic=self._topic, partitions=len(ids))
        self._failed = None
        producer.begin_transaction()
        for id in ids:
            producer.produce(self._topic, None, partition=id, on_delivery=self._delivered)
        left = producer.flush(CALL_SECS)
        if refused := self._refused():
            raise KafkaException(refused)
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # as above
        self._touch_offsets(producer)
        _within(2 * CALL_SECS, producer.abort_transaction, CALL_SECS)

    def _touch_offsets(self, producer: Producer) -> None:
        """The group's offsets are part of transactions too. One that nobody asks for will do: all of a group are in one
        partition."""
        place = TopicPartition(self._topic, 0, 0)
        reader = Consumer(dict(self._readback.config))
        try:
            membership = reader.consumer_group_metadata()  # of nobody: it has not joined
            _within(2 * CALL_SECS, producer.send_offsets_to_transaction, [place], membership, CALL_SECS)
        except KafkaException as error:
            if not _cause(error).txn_requires_abort():  # refused, but its partition is part of the transaction by then
                raise
        finally:
            reader.close()

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()  # or its end would wait for them

    def _found(self, doubt: InDoubt) -> Known:
        return self._readback.read(doubt.since_ms - MARGIN_MS, doubt.wanted, lambda: None)

    # -- what the client says

    def _hear(self, error: KafkaError) -> None:
        self._heard = said(error)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        # What is purged has failed because of something else, and perhaps in the transaction before.
        if error is not None and self._failed is None and error.name() not in _PURGED:
            self._failed = error

    def _said(self, error: KafkaError) -> str:
        return f"{said(error)} ({self._heard})" if self._heard else said(error)

    def _outcome(self, error: KafkaError) -> Outcome:
        name = error.name()
        reason, detail = name.lower().strip("_"), f"topic {self._topic}: {self._said(error)}"
        if name in _OURS and self._in_doubt is None:  # halves would ask the topic once, for the first of them
            return Undeliverable(reason, detail)
        if name in _GROUP_MOVED:
            return Again("group_moved", detail)
        if name in _FENCED or (error.fatal() and name == "_FATAL"):
            return Again(
                "fenced",
                f"{detail}; a transaction took longer than transactionTimeoutSecs, or two replicas have one "
                "app.instanceId",
            )
        if name in _SETTING or is_fatal(error):
            return Misconfigured(reason, detail)
        return Again(reason, detail)


def _within(secs: float, call: Callable[..., None], *arguments: object) -> None:
    """Call it on a thread that can be left behind: librdkafka's own limits of time do not always hold. (librdkafka
    issue 5456; seen with 2.16: after a broker that was killed had come back, `send_offsets_to_transaction` never returned.)

    What is left behind keeps its producer. It can end nothing any more: the next one's beginning fences it.
    """
    answer: Queue[BaseException | None] = Queue(1)

    def work() -> None:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001  # raised below, where it is waited for
            answer.put(error)
        else:
            answer.put(None)

    Thread(target=work, name="transaction", daemon=True).start()
    try:
        error = answer.get(timeout=secs)
    except Empty:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001  # as above
    if error is not None:
        raise error


def _cause(error: BaseException) -> KafkaError:
    """confluent-kafka raises a fatal error out of whatever call it met it in; a delivery that is reported in the same
    call trips over that, and what comes out is a SystemError because of it, or of nothing (seen of `flush`)."""
    while not isinstance(error, KafkaException):
        if error.__cause__ is None and isinstance(error, SystemError):
            return KafkaError(KafkaError._FATAL, "the client ended", fatal=True)  # noqa: SLF001  # as above
        if error.__cause__ is None:
            raise error
        error = error.__cause__
    return cause_of(error)


def _size(value: bytes, headers: Headers) -> int:
    return len(value) + sum([len(name) + len(content or b"") for name, content in headers])


def _is_in(output: Entry, there: Known) -> bool:
    """Whether the topic has it. By its trace id and any of its records: a transaction is there whole or not at all."""
    for id, offsets in output.covers.items():
        known = there.get(id, {}).get(output.trace_id)
        if known is not None and set(offsets) <= set(known.offsets):
            return True
    return False
