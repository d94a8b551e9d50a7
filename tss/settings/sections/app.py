"""`app`: what the daemon holds in memory, when a trace is complete, how the daemon stops."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, secs, truth, whole
from tss.settings.kinds.texts import text
from tss.settings.kinds.units import BYTES


@frozen(kw_only=True)
class App:
    """The daemon itself: what it holds in memory, when a trace counts as complete, how it stops."""

    instance_id: str = key(
        "",
        text(),
        "Name of this replica in logs and metrics. With `kafka.staticMembership` also its name in the consumer group.",
        default_doc="the host's name",
    )
    max_buffer_spans: int = key(1_000_000, whole(1), "The most spans of open traces held in memory.")
    max_buffer_traces: int = key(100_000, whole(1), "The most open traces held in memory.")
    max_buffer_bytes: int = key(
        0,
        whole(0, units=BYTES),
        "The most bytes of open traces held in memory. At a third of this limit, quiet traces are compressed in memory. At half of it, the oldest traces are decided early; the other half is for everything else that grows with traffic.",
        default_doc="two thirds of (memory limit - 128 MiB), at least 32 MiB; the memory limit is that of the cgroup or the machine; `0` means the same",
    )
    max_trace_spans: int = key(50_000, whole(1), "A trace with this many spans is decided at once.")
    shutdown_timeout_secs: float = key(30, positive_secs, "The longest time that an orderly stop may take.")
    evaluation_workers: int = key(4, whole(1, 64), "Number of tasks that evaluate complete traces.")
    graceful_shutdown: bool = key(
        True,
        truth,
        "On SIGTERM, finish the traces in progress. With false, stop at once: nothing is lost, because Kafka still has the records.",
    )
    inactivity_timeout_secs: float = key(
        600, positive_secs, "A trace is decided when no span has arrived for this long."
    )
    max_trace_duration_secs: float = key(10_800, positive_secs, "A trace is decided when it has been open this long.")
    root_quiet_secs: float = key(
        30,
        secs,
        "A trace that has its root span and misses no parent span is decided when no span has arrived for this long.",
    )
    park_after_secs: float = key(
        60,
        positive_secs,
        "The spans of a trace that is open for longer move to Redis. Has an effect only with `redis.url`.",
    )
    max_clock_skew_secs: float = key(
        300,
        secs,
        "A record with a timestamp further ahead of the clock than this is read as if its timestamp were now.",
    )
    replay_secs: float = key(
        60,
        secs,
        "How far before the committed offset the daemon starts to read. This rebuilds recent decisions, so that late spans "
        "follow them. 0: start at the committed offset.",
    )
    decision_memory_secs: float = key(
        600,
        positive_secs,
        "For how long a decision is remembered, so that late spans follow it. Measured in the time of the topic's records. "
        "Shorter if `maxBufferBytes` is too small for all decisions of that time.",
    )
    state_dir: str = key(
        "",
        text(),
        "Directory for the history of the policies and their texts, where there is no Redis: after a restart with changed policies, "
        "traces that were read before are decided by the policies of that time ([reload.md](reload.md)). Empty: in memory only. "
        "With `redis.url`, Redis has them.",
    )
