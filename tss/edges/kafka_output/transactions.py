"""A transactional producer: a batch of entries, and the offsets that it covers, are written whole or not at all.

States, from the first use on::

                  _ready                    _send                      _commit
    NO PRODUCER ----------> READY ------------------------> OPEN ------------------> READY (Accepted)
        ^                     ^                              |                         |
        |                     | _ready                       | error                   | no answer (case 6)
        |                     |                              v                         |
        |  surely aborted     |                          ABORTING                      |
        |  (cases 2, 3)       |                              |                         |
        +---------------------|------------------------------+                         |
                              |                              | perhaps not aborted     |
                              |                              | (cases 1, 4, 5)         |
                              |                              v                         |
                              +-------------------------- IN DOUBT <-------------------+

NO PRODUCER and IN DOUBT both have no client: after an error the client is discarded (case 3). IN DOUBT also remembers
that a transaction may be committed or not. The next `run` then makes a client, whose beginning ends that transaction
one way or the other. It reads the topic back, and sends only the entries that the topic lacks. Its commit ends the
doubt; so does a topic that lacks nothing.

What brokers and librdkafka really do. The code refers to these cases by number:

1.  *Fenced.* Another client with this transactional id has begun: two replicas have one `app.instanceId`. Or the
    coordinator aborted the transaction, because it took longer than `transactionTimeoutSecs`. The client is dead. The
    outcome is `Again`: the next client fences the other one.
2.  *The group has moved.* The partitions were assigned to another member. The brokers refuse the offsets of a member
    that is not in the group's generation any more (KIP-447). The transaction is aborted; the new owner sends its traces.
3.  *A record is refused,* because it is too large or invalid. The transaction is aborted, and the batch is undeliverable.
    A client that is used again after this fails once more (measured: its sequence numbers have a gap). So each abort is
    followed by a new client.
4.  *A call never returns* (librdkafka issue 5456; seen with 2.16: `send_offsets_to_transaction`, after a broker was
    killed and had come back). The call runs on a thread of its own, which is left behind with its client (`_within`).
    An abort would not return either, so none is tried.
5.  *A broker dies during the abort.* Nobody asked for a commit, but the transaction was in the topic (measured).
6.  *A commit is not answered.* The coordinator may have moved, or a broker may hang. The call is repeated for
    `COMMIT_SECS`. After that the transaction may be committed already, or may still become so. This is even true where
    the client demands an abort: the brokers may have committed, and the answer was lost.
7.  *The brokers forget to end a transaction.* It ends (its timeout is enough) while a partition has no leader. The
    coordinator then calls it complete, and it stays open in the partition, which the coordinator takes for deleted (seen
    with Apache Kafka 4.3.1: "likely deleted already and hence can be skipped"). Readers wait for ever, and the next
    transaction that is committed here would commit that one too. So a new client first aborts one transaction on these
    partitions, and on the group's offsets (`_end_open_transactions`).
8.  *A broker forgets a transaction that it reported as committed.* It is killed between its answer and the markers in
    the topic. So the entries of the last committed transaction are kept until the next one is committed: its markers end
    both. In doubt, the topic is asked for these entries too.
9.  *A former process left a transaction open.* Readers, and the next owner of its partitions, would wait for its
    timeout. `prepare` makes the client at once, and its beginning ends that transaction.
10. *A fatal error comes as a SystemError.* confluent-kafka raises it out of any call. A delivery report in the same call
    meets the pending exception, and the SystemError has the fatal error as its cause, or no cause at all (seen with
    `flush`).
11. *The topic is missing.* librdkafka would say nothing for half a minute, so the client asks for its metadata first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, Queue
from threading import Lock, Thread

import attrs
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Undeliverable
from tss.core.errors import CannotConnect
from tss.core.partition import Commit
from tss.edges.kafka_client.errors import TOPIC_MISSING, cause_of, is_fatal, said
from tss.edges.kafka_client.offset_metadata import to_metadata
from tss.edges.kafka_output.entry import Entry, RecordHeaders
from tss.edges.kafka_output.readback import MARGIN_MS, Known, Readback

log = structlog.get_logger()

# The limit of each call that waits for a broker; a working broker answers in milliseconds. A batch that is not written
# by then is aborted and sent again.
CALL_SECS = 5.0
COMMIT_SECS = 15.0  # longer: an answer is cheaper than reading the topic back

_RECORD_REFUSED = frozenset(
    {"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_MSG", "INVALID_TIMESTAMP"}
)
_GROUP_MOVED = frozenset(
    {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID", "STALE_MEMBER_EPOCH", "REBALANCE_IN_PROGRESS"}
)
_MISCONFIGURED = TOPIC_MISSING | {
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "INVALID_TRANSACTION_TIMEOUT", "UNSUPPORTED_VERSION",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT", "POLICY_VIOLATION", "NOT_ENOUGH_REPLICAS",
}  # fmt: skip
_PURGED = frozenset({"_PURGE_QUEUE", "_PURGE_INFLIGHT"})
_FENCED = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_TXN_STATE"})


@attrs.frozen
class Transaction:
    """What one transaction writes: the entries, and the offsets of the partitions that they cover."""

    entries: Sequence[Entry]
    commits: Mapping[int, Commit]
    stamp_ms: int  # no record of it is older
    membership: bytes  # of the consumer group; the brokers refuse that of an ended assignment (case 2)


@attrs.define
class InDoubt:
    """A transaction that may be committed or not."""

    since_ms: int  # none of its records is older
    wanted: Mapping[int, int]  # by input partition the first offset that its entries may cover


class TransactionalProducer:
    """Used by one thread at a time, except `prepare`."""

    def __init__(self, config: Mapping[str, object], topic: str, readback: Readback) -> None:
        self._config = dict(config)
        self._topic = topic
        self._readback = readback
        self._producer: Producer | None = None
        self._making = Lock()  # `prepare` is called on the source's thread, before it reads the topic back
        self._last_error = ""  # that the client reported; its exceptions often lack the reason
        self._failed: KafkaError | None = None  # of the first record that was not delivered
        self._in_doubt: InDoubt | None = None
        self._before: Sequence[Entry] = []  # of the last committed transaction (case 8)
        self.held_bytes = 0  # by these entries, which nobody else counts any more
        self._before_ms = 0

    def __repr__(self) -> str:
        return f"<TransactionalProducer {self._config['transactional.id']} on {self._topic}, in doubt {self._in_doubt}>"

    def prepare(self) -> None:
        """Make the client now, since a former process may have left a transaction open (case 9). Raises nothing."""
        try:
            self._ready()
        except (KafkaException, SystemError) as error:
            log.warning(
                "the output topic takes no transaction yet; the next batch tries again",
                topic=self._topic,
                reason=self._reason(_cause(error)),
            )

    def run(self, transaction: Transaction) -> Outcome:
        """Write all of it or nothing."""
        entries = transaction.entries
        try:
            producer = self._ready()
            if self._in_doubt is not None:
                there = self._found(self._in_doubt)
                self._keep([each for each in self._before if not _is_in(each, there)])
                entries = [*self._before, *(each for each in entries if not _is_in(each, there))]
                if not entries:
                    self._in_doubt = None
                    return Accepted()
        except (KafkaException, SystemError) as error:
            return self._outcome(_cause(error))
        except CannotConnect as error:
            return Again("outcome_unknown", str(error))
        trouble = self._send(producer, entries, transaction)
        if trouble is None:
            outcome = self._commit(producer, transaction)
            if isinstance(outcome, Accepted):
                self._before_ms, self._in_doubt = transaction.stamp_ms, None
                self._keep(entries)
            return outcome
        self._abort(producer, trouble, transaction)
        return self._outcome(trouble)

    def _keep(self, entries: Sequence[Entry]) -> None:
        """Until the next transaction is committed (case 8)."""
        self._before = entries
        self.held_bytes = sum([_size(value, headers) for each in entries for value, headers in each.records])

    def close(self) -> None:
        """Let go of the client. An open transaction ends with its timeout, or at the next start (case 9)."""
        self._discard()

    # -- one transaction

    def _send(self, producer: Producer, entries: Sequence[Entry], transaction: Transaction) -> KafkaError | None:
        self._failed = None
        try:
            producer.begin_transaction()
            for entry in entries:
                key = entry.trace_id.hex().encode()
                stamp_ms = transaction.stamp_ms if entry.stamp_ms is None else entry.stamp_ms
                for value, headers in entry.records:
                    self._produce(producer, key, value, headers, stamp_ms)
            # Before the offsets are sent: the reason why a record is refused tells more than the error that follows.
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

    def _produce(self, producer: Producer, key: bytes, value: bytes, headers: RecordHeaders, stamp_ms: int) -> None:
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
            except BufferError:  # the client's queue is full: wait until some of it is sent
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
        # Case 6.
        log.warning(
            "it is not known whether a transaction was committed: the topic is read back before the next one",
            topic=self._topic,
            reason=said(cause),
        )
        self._in_doubt = self._doubt_about(transaction)
        self._discard()
        return self._outcome(cause)

    def _abort(self, producer: Producer, trouble: KafkaError, transaction: Transaction) -> None:
        """At once, since readers of the topic wait for the end of the transaction. The client goes too (case 3)."""
        aborted = False
        # Case 4: after a call that did not return, this one would not return either.
        if not trouble.fatal() and trouble.name() != "_TIMED_OUT":
            try:
                _within(2 * CALL_SECS, producer.abort_transaction, CALL_SECS)
                aborted = True
            except (KafkaException, SystemError) as error:
                log.debug("a transaction could not be aborted", topic=self._topic, reason=said(_cause(error)))
        if not aborted or trouble.name() not in _RECORD_REFUSED | _GROUP_MOVED:
            # Case 5.
            self._in_doubt = self._doubt_about(transaction)
        self._discard()

    def _doubt_about(self, transaction: Transaction) -> InDoubt:
        """Of this transaction, and of the one before (case 8)."""
        ids = {id for entry in self._before for id in entry.covers} | transaction.commits.keys()
        since_ms = self._before_ms if self._before else transaction.stamp_ms
        if self._in_doubt is not None:
            since_ms = min(since_ms, self._in_doubt.since_ms)
        return InDoubt(since_ms, dict.fromkeys(ids, 0))

    # -- the producer

    def _ready(self) -> Producer:
        with self._making:
            if self._producer is None:
                self._last_error = ""
                producer = Producer(self._config | {"error_cb": self._on_error})
                # Case 11.
                topic = producer.list_topics(self._topic, timeout=CALL_SECS).topics[self._topic]
                if topic.error:
                    raise KafkaException(topic.error)
                _within(2 * CALL_SECS, producer.init_transactions, CALL_SECS)
                self._end_open_transactions(producer, [*topic.partitions])
                self._producer = producer
            return self._producer

    def _end_open_transactions(self, producer: Producer, ids: Sequence[int]) -> None:
        """Abort one transaction, whose markers end whatever a former client of this id began (case 7)."""
        if self._in_doubt is None:
            # In these partitions a transaction is open, of this id or of another replica: on those the abort has no
            # effect. Usually no transaction is open, and nothing is written: readers at Tansu see aborted records.
            ids = self._readback.under_way(ids)
        if not ids:
            return
        log.info("aborting transactions that may be open in the output topic", topic=self._topic, partitions=len(ids))
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
        """Make the group's offsets part of the transaction. All offsets of a group are in one partition, so the offset of
        a topic that the group does not read is enough."""
        place = TopicPartition(self._topic, 0, 0)
        reader = Consumer(dict(self._readback.config))
        try:
            membership = reader.consumer_group_metadata()  # without a member, since the client has not joined
            _within(2 * CALL_SECS, producer.send_offsets_to_transaction, [place], membership, CALL_SECS)
        except KafkaException as error:
            if not _cause(
                error
            ).txn_requires_abort():  # after such a refusal the partition is part of the transaction already
                raise
        finally:
            reader.close()

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()  # or its destructor would wait for the records

    def _found(self, doubt: InDoubt) -> Known:
        return self._readback.read(doubt.since_ms - MARGIN_MS, doubt.wanted, lambda: None)

    # -- callbacks and errors of the client

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = said(error)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        # A purged record failed because of another error, perhaps in the transaction before.
        if error is not None and self._failed is None and error.name() not in _PURGED:
            self._failed = error

    def _reason(self, error: KafkaError) -> str:
        return f"{said(error)} ({self._last_error})" if self._last_error else said(error)

    def _outcome(self, error: KafkaError) -> Outcome:
        name = error.name()
        reason, detail = name.lower().strip("_"), f"topic {self._topic}: {self._reason(error)}"
        # In doubt the batch stays whole. Split in halves, only the first half would be looked for in the topic.
        if name in _RECORD_REFUSED and self._in_doubt is None:
            return Undeliverable(reason, detail)
        if name in _GROUP_MOVED:
            return Again("group_moved", detail)
        if name in _FENCED or (error.fatal() and name == "_FATAL"):
            return Again(
                "fenced",
                f"{detail}; a transaction took longer than transactionTimeoutSecs, or two replicas have the same "
                "app.instanceId",
            )
        if name in _MISCONFIGURED or is_fatal(error):
            return Misconfigured(reason, detail)
        return Again(reason, detail)


def _within(secs: float, call: Callable[..., None], *arguments: object) -> None:
    """Call it on a thread that can be left behind, since librdkafka's own timeouts do not always hold (case 4).

    That thread keeps its client. The client can end no transaction any more: the beginning of the next one fences it.

    Raises what the call raises, or KafkaException (_TIMED_OUT) after ``secs``.
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
    """The client's error behind an exception (case 10). Raises the exception itself if it has no such cause."""
    while not isinstance(error, KafkaException):
        if error.__cause__ is None and isinstance(error, SystemError):
            return KafkaError(KafkaError._FATAL, "the client ended", fatal=True)  # noqa: SLF001  # as above
        if error.__cause__ is None:
            raise error
        error = error.__cause__
    return cause_of(error)


def _size(value: bytes, headers: RecordHeaders) -> int:
    return len(value) + sum([len(name) + len(content or b"") for name, content in headers])


def _is_in(entry: Entry, there: Known) -> bool:
    """Whether the topic has it. One partition is enough, since a transaction is there whole or not at all."""
    for id, offsets in entry.covers.items():
        known = there.get(id, {}).get(entry.trace_id)
        if known is not None and set(offsets) <= set(known.offsets):
            return True
    return False
