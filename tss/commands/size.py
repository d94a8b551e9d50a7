"""`tss size`: from traffic to pods, memory, partitions, retention and settings; docs/sizing.md explains it."""

import argparse
import math
import sys
from collections.abc import Mapping

import attrs
from attrs import frozen

from tss.commands import DONE
from tss.settings.document import dump
from tss.settings.memory import MIB, buffer_bytes

# Measured (docs/performance.md), at 8 spans a record, 5 % kept: a million spans a CPU-second, half of that with Datadog's
# statistics of all spans. A core is filled to 60 %, so that a backlog shrinks and a neighbour's pod may fail.
SPANS_PER_CPU_SEC = 500_000
CPU_SHARE = 0.6
# Memory beside the bytes of the spans, for each trace, record and span id.
TRACE_BYTES, RECORD_BYTES, SPAN_ID_BYTES = 500, 55, 8
# From a third of maxBufferBytes on quiet traces are packed, from half of it on the oldest are decided early. This lies between.
BUFFER_SHARE = 0.42
# Bytes of a decision in Redis. Those of a parked trace: its summary with the facts of twenty policies, three fields of the
# hash, and what zstd needs at the start of its spans, which it then packs to a fifth (tests/commands/test_size.py).
DECISION_BYTES, PARKED_BYTES, PACKED = 150, 910, 5
# The defaults of the settings.
PARK_AFTER_SECS, DECISION_TTL_SECS, COMMIT_INTERVAL_SECS, MAX_TRACE_SECS = 60, 3600, 5, 10_800
GIB, HOUR_SECS = 1024 * MIB, 3600


@frozen(kw_only=True)
class Traffic:
    """The traffic. `rate` is in spans a second; `window` is the seconds for which a trace is open on average."""

    rate: float
    window: float
    span_bytes: float = 460
    spans_per_trace: float = 8
    spans_per_record: float = 8
    keep: float = 0.05
    outage_hours: float = 12
    pod_mib: int = 1024
    redis: bool = True


@frozen(kw_only=True)
class Size:
    """The need of that traffic. Bytes are of all pods together, unless a comment says otherwise."""

    pods: int
    pods_for_cpu: float
    pods_for_memory: float
    held_secs: float
    held_bytes: float
    buffer_bytes: int  # of one pod
    open_traces: float  # of one pod
    partitions: int
    retention_secs: float
    retention_bytes: float
    redis_bytes: float
    out_bytes_per_sec: float
    lag_threshold: int


def size(traffic: Traffic) -> Size:
    held_secs = min(traffic.window, PARK_AFTER_SECS) if traffic.redis else traffic.window
    beside = SPAN_ID_BYTES + TRACE_BYTES / traffic.spans_per_trace + RECORD_BYTES / traffic.spans_per_record
    held_bytes = traffic.rate * held_secs * (traffic.span_bytes + beside)
    buffer = buffer_bytes(traffic.pod_mib * MIB)
    for_cpu = traffic.rate / (SPANS_PER_CPU_SEC * CPU_SHARE)
    for_memory = held_bytes / (buffer * BUFFER_SHARE)
    pods = max(2, math.ceil(max(for_cpu, for_memory)))  # two, so that one can be away
    traces_per_sec = traffic.rate / traffic.spans_per_trace
    retention_secs = MAX_TRACE_SECS + 2 * traffic.outage_hours * HOUR_SECS
    decided = traces_per_sec * traffic.keep * DECISION_TTL_SECS * DECISION_BYTES
    # A parked trace stays in Redis until its end. It is packed there, and few traces stay open for that long.
    parked_secs = max(0.0, traffic.window - PARK_AFTER_SECS)
    parked = parked_secs * traces_per_sec * parked_bytes(traffic.span_bytes, traffic.spans_per_trace)
    return Size(
        pods=pods,
        pods_for_cpu=for_cpu,
        pods_for_memory=for_memory,
        held_secs=held_secs,
        held_bytes=held_bytes,
        buffer_bytes=buffer,
        open_traces=traces_per_sec * traffic.window / pods,
        partitions=2 * pods,
        retention_secs=retention_secs,
        retention_bytes=traffic.rate * traffic.span_bytes * retention_secs,
        redis_bytes=decided + parked if traffic.redis else 0,
        out_bytes_per_sec=traffic.rate * traffic.keep * traffic.span_bytes,
        lag_threshold=_round_up(2 * traffic.rate / traffic.spans_per_record / pods * COMMIT_INTERVAL_SECS),
    )


def parked_bytes(span_bytes: float, spans: float) -> float:
    """Memory of Redis for a parked trace."""
    return PARKED_BYTES + spans * (span_bytes / PACKED + SPAN_ID_BYTES)


def _round_up(number: float) -> int:
    """Up to two significant digits."""
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step


def values(traffic: Traffic, found: Size) -> dict[str, object]:
    """Values of the Helm chart to begin with. The limits are twice the expected numbers."""
    spans = found.open_traces * traffic.spans_per_trace
    app = {
        "maxBufferTraces": _round_up(max(2 * found.open_traces, 100_000)),
        "maxBufferSpans": _round_up(max(2 * spans, 1_000_000)),
    }
    memory = f"{traffic.pod_mib}Mi"
    return {
        "replicaCount": found.pods,
        "resources": {"requests": {"cpu": "1", "memory": memory}, "limits": {"cpu": "1", "memory": memory}},
        "config": {"app": app},
        "keda": {
            "minReplicaCount": found.pods,
            "maxReplicaCount": found.partitions,
            "kafka": {"partitions": found.partitions, "lagThreshold": str(found.lag_threshold)},
        },
    }


def sheet(traffic: Traffic) -> str:
    """The worksheet: each figure with its origin."""
    found = size(traffic)
    where = f"{found.held_secs:g} s in memory" + (", then parked in Redis" if found.held_secs < traffic.window else "")
    rows = [
        ("spans a second", f"{traffic.rate:,.0f}", f"{_bytes(traffic.rate * traffic.span_bytes)} a second in"),
        ("pods", f"{found.pods}", "the larger of the next two, and at least 2"),
        ("  for CPU", _pods(found.pods_for_cpu), f"{SPANS_PER_CPU_SEC:,} spans a CPU-second, each core filled to {CPU_SHARE:.0%}"),
        ("  for memory", _pods(found.pods_for_memory), f"{BUFFER_SHARE:.0%} of {_bytes(found.buffer_bytes)} in a pod of {traffic.pod_mib} MiB"),
        ("held open", _bytes(found.held_bytes), where),
        ("open traces a pod", f"{found.open_traces:,.0f}", f"of {traffic.spans_per_trace:g} spans, for {traffic.window:g} s"),
        ("partitions", f"{found.partitions} or more", "two for each pod, so that the number of pods can double"),
        ("Kafka retention", f"{found.retention_secs / HOUR_SECS:.0f} h", f"maxTraceDurationSecs plus twice an outage of {traffic.outage_hours:g} h"),
        ("  which is", _bytes(found.retention_bytes), "without compression, one copy"),
        ("Redis", _bytes(found.redis_bytes), f"decisions of {DECISION_TTL_SECS} s, parked traces")
        if traffic.redis
        else ("Redis", "none", "each restart and rebalance sends traces twice"),
        ("to the backend", f"{_bytes(found.out_bytes_per_sec)}/s", f"{traffic.keep:.2%} kept, without compression"),
    ]  # fmt: skip
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:<{wide[0]}}  {value:>{wide[1]}}  {why}" for name, value, why in rows]
    return "\n".join([*lines, "", "# values of the Helm chart to begin with", dump(values(traffic, found))])


def _pods(number: float) -> str:
    return f"{number:.1f}" if number >= 0.1 else "< 0.1"


def _bytes(number: float) -> str:
    if number >= GIB:
        return f"{number / GIB:,.1f} GiB"
    return f"{number / MIB:.0f} MiB" if number >= 10 * MIB else f"{number / MIB:.1f} MiB"


DESCRIPTION = """\
From your traffic at its busiest time: how many pods, how much memory, how many partitions, how long Kafka must keep the
records, and values of the Helm chart to begin with. It asks no server.
"""
EPILOG = """\
example:
  %(prog)s --rate 2000 --window 40

exit codes: 0 done; 2 a wrong command line
"""


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the worksheet; returns the exit code."""
    sys.stdout.write(sheet(traffic_of(options)))
    return DONE


def traffic_of(options: argparse.Namespace) -> Traffic:
    """The traffic that the arguments describe."""
    return Traffic(**{each.name: getattr(options, each.name) for each in attrs.fields(Traffic)})


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add, usual = parser.add_argument, Traffic(rate=1, window=1)
    add("--rate", type=_positive, required=True, help="spans a second at the busiest time")
    add(
        "--window", type=_positive, required=True, help="seconds that a trace is open: its length and app.rootQuietSecs"
    )
    add("--span-bytes", type=_positive, default=usual.span_bytes, help="of one span in OTLP (default: %(default)g)")
    add("--spans-per-trace", type=_positive, default=usual.spans_per_trace, help="(default: %(default)g)")
    add("--spans-per-record", type=_positive, default=usual.spans_per_record, help="in Kafka (default: %(default)g)")
    add("--keep", type=_share, default=usual.keep, help="share of the traces that is kept (default: %(default)g)")
    add("--outage-hours", type=_positive, default=usual.outage_hours, help="to be survived (default: %(default)g)")
    add("--pod-mib", type=_mib, default=usual.pod_mib, help="memory limit of a pod (default: %(default)d)")
    add("--no-redis", dest="redis", action="store_false", help="without redis.url nothing is parked")


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, 0 to 1")
    return number


def _mib(text: str) -> int:
    number = _number(text)
    if not 256 <= number < math.inf:  # below that the guide's minimum
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB, 256 or more")
    return int(number)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
