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
        "Name of this replica in logs, in metrics and, with `kafka.staticMembership`, in the group.",
        default_doc="the host's name",
    )
    max_buffer_spans: int = key(1_000_000, whole(1), "Spans of open traces held in memory at most.")
    max_buffer_traces: int = key(100_000, whole(1), "Open traces held in memory at most.")
    max_buffer_bytes: int = key(
        0,
        whole(0, units=BYTES),
        "Bytes of open traces held in memory at most; from two fifths of it on quiet ones are compressed in place, and at the limit the oldest traces are decided early.",
        default_doc="two thirds of the memory limit (cgroup or machine) less 128 MiB, at least 32 MiB; `0` means the same",
    )
    max_trace_spans: int = key(50_000, whole(1), "A trace with this many spans is decided at once.")
    shutdown_timeout_secs: float = key(30, positive_secs, "An orderly stop takes no longer than this.")
    evaluation_workers: int = key(4, whole(1, 64), "Tasks that evaluate complete traces.")
    graceful_shutdown: bool = key(
        True, truth, "On SIGTERM finish what is in hand; with false stop at once (nothing is lost: Kafka still has it)."
    )
    inactivity_timeout_secs: float = key(600, positive_secs, "A trace is decided when no span came for this long.")
    max_trace_duration_secs: float = key(10_800, positive_secs, "A trace is decided when it has been open this long.")
    root_quiet_secs: float = key(
        30, secs, "A trace whose root is there and no parent is missing is decided when quiet for this long."
    )
    park_after_secs: float = key(
        60, positive_secs, "A trace open for longer moves to Redis; has an effect only with `redis.url`."
    )
    max_clock_skew_secs: float = key(300, secs, "A record dated further ahead of the clock than this counts as now.")
    replay_secs: float = key(
        60,
        secs,
        "How far before the committed offset the log is read again at a start, so that late spans of traces already "
        "decided meet the same verdict; 0 is off.",
    )
    decision_memory_secs: float = key(
        600,
        positive_secs,
        "For how long, in the topic's time, a decision is remembered, so that late spans follow it; less where "
        "`maxBufferBytes` has no room for so many.",
    )
