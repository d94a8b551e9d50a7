"""What goes on to the destinations: each span once, runs of alike spans as one, and everything else as it came."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from structlog.testing import capture_logs

from tests.core.spans import lone, message, one_record, scanned, span, trace_id
from tests.fakes.meter import FakeMeter
from tss.core import measures, tracestate
from tss.core.buffer import SENT_BYTES, SENT_RECORD_BYTES, Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.evaluation import evaluate
from tss.core.memory import Kept, Memory
from tss.core.otlp import Encoding, Scanner
from tss.core.packing import Packed
from tss.core.partition import Partition
from tss.core.policies import policies
from tss.core.policies.probability import SPACE, randomness, threshold
from tss.core.preparing import Preparation
from tss.core.trace import Trace
from tss.core.weights import REASONS, UNKNOWN, adjusted_count, th_of
from tss.settings import Sampling, SpanCompression
from tss.tasks import preparer

ON, OFF = SpanCompression(enabled=True), SpanCompression()
KEPT = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)


def calls(count: int, *, first: int = 1) -> list[Span]:
    """Alike calls below span 0, which are no queries: only of a complete trace may they become one."""
    made = [span(0, number, 0, start_ms=number) for number in range(first, first + count)]
    for each in made:
        each.name, each.kind = "GET", Span.SPAN_KIND_CLIENT
    return made


def kept(*records: Sequence[Span], reason: Reason = Reason.ROOT_QUIET, remembered: int = 0) -> Trace:
    """A trace of these records, of which the first `remembered` had been settled before."""
    home = Partition(0, 0, 0)
    trace = Trace(trace_id(0), home, 0)
    for offset, spans in enumerate(records):
        (found,) = Scanner().fragments(message(spans), Encoding.OTLP_PROTO, [])
        trace.absorb(lone(found), 0)
        if offset >= remembered:
            home.ledger.read(offset)
            trace.hold(home, offset, lone(found), 0)
    trace.reason, trace.decision = reason, KEPT
    return trace


def a_buffer(max_bytes: int = 1 << 30) -> Buffer:
    return Buffer(Limits(max_bytes, 10**9, 10**9, 10**9), Waits(30_000, 60_000, 10**9), Memory())


async def prepared(
    traces: list[Trace], compression: SpanCompression, buffer: Buffer | None = None, *, weights: bool = False
) -> tuple[list[Trace], FakeMeter]:
    kept_in, kept_out = trio.open_memory_channel[list[Trace]](1)
    prepared_in, prepared_out = trio.open_memory_channel[list[Trace]](1)
    meter = FakeMeter()
    with kept_in:
        kept_in.send_nowait(traces)
    preparation = Preparation(compression, weights=weights)
    await preparer.run(kept_out, prepared_in, buffer or a_buffer(), preparation, meter)
    with prepared_out:
        return [trace for batch in [batch async for batch in prepared_out] for trace in batch], meter


def names_of(trace: Trace) -> list[str]:
    data = TracesData.FromString(trace.payload)
    return [each.name for group in data.resource_spans for scope in group.scope_spans for each in scope.spans]


def numbers(meter: FakeMeter) -> list[float]:
    shown = (
        measures.DUPLICATES_REMOVED,
        measures.COMPRESSED_SPANS,
        measures.COMPRESSED_GROUPS,
        measures.COMPRESSION_SPANS_IN,
        measures.COMPRESSION_SPANS_OUT,
    )
    return [meter.counted(each) for each in shown]


@pytest.mark.parametrize("compression", [ON, OFF])
async def test_law_6_what_nothing_changes_is_the_very_bytes(compression: SpanCompression) -> None:
    trace = kept([span(0, 0), *calls(2)])
    before = trace.payload
    (after,), meter = await prepared([trace], compression)
    assert after is trace and after.payload is before
    assert numbers(meter) == [0, 0, 0, 3, 3]


async def test_repeated_spans_go_and_are_counted() -> None:
    spans = [span(0, 0), *calls(2)]
    trace = kept(spans, spans[1:])
    _, meter = await prepared([trace], OFF)
    assert trace.payload == message(spans) and trace.payload_bytes == len(trace.payload)
    assert trace.held_spans == 3
    assert len(trace.holds()) == 2  # law 1: both records are held until it is delivered
    assert numbers(meter) == [2, 0, 0, 3, 3]


@pytest.mark.parametrize("size", [10, 5000])  # the second on a thread
async def test_alike_spans_become_one_and_are_counted(size: int) -> None:
    trace = kept([span(0, 0), *calls(size)], calls(1))
    assert (trace.payload_bytes >= preparer.THREAD_BYTES) == (size > 10)
    _, meter = await prepared([trace], ON)
    assert names_of(trace) == ["span 0", "GET"]
    assert trace.held_spans == 2
    assert numbers(meter) == [1, size, 1, size + 1, 2]


@pytest.mark.parametrize("reason", [Reason.INACTIVE, Reason.MAX_DURATION, Reason.SPAN_LIMIT, Reason.PRESSURE])
async def test_of_what_is_not_whole_calls_that_went_out_stay(reason: Reason) -> None:
    trace, late = kept([span(0, 0), *calls(5)], reason=reason), kept(calls(5))
    late.late = True
    partly = kept([span(0, 0)], calls(5), remembered=1)  # its root went out before this start, and others with it
    await prepared([trace, late, partly], ON)
    assert [each.held_spans for each in (trace, late, partly)] == [6, 5, 5]


async def test_a_trace_on_two_partitions_goes_as_it_came() -> None:
    trace, other = kept([span(0, 0), *calls(5)]), Partition(1, 0, 0)
    (found,) = Scanner().fragments(message(calls(5)), Encoding.OTLP_PROTO, [])
    other.ledger.read(0)
    trace.hold(other, 0, lone(found), 0)
    before = trace.payload
    _, meter = await prepared([trace, kept([span(0, 0)])], ON)
    assert trace.payload == before
    assert numbers(meter) == [0, 0, 0, 1, 1]


async def test_law_1_what_cannot_be_prepared_goes_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: Preparation, payload: bytes, *, complete: bool, weight: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(Preparation, "prepare", prepare)
    trace = kept([span(0, 0), *calls(5)])
    before = trace.payload
    found, _ = await prepared([trace], ON)
    assert found == [trace] and trace.payload == before


async def test_what_each_trace_may_trigger_is_told_once_with_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: Preparation, payload: bytes, *, complete: bool, weight: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(Preparation, "prepare", prepare)
    with capture_logs() as logged:
        _, meter = await prepared([kept([span(0, 0), *calls(5)]) for _ in range(50)], ON)
    [line] = logged
    assert line["count"] == 50 and "too deep" in str(line["reason"])
    assert meter.counted(measures.TRACES_UNPREPARED) == 50


def held(traces: Sequence[Trace]) -> tuple[int, int]:
    """The bytes that are really there of these, and how many of their chunks are packed."""
    chunks = []
    for trace in traces:
        chunks += trace.leave()[1]
        trace.stay()
    return sum(len(each.frame if isinstance(each, Packed) else each) for each in chunks), sum(
        isinstance(each, Packed) for each in chunks
    )


def packed_and_closed(traces: int, records: int) -> tuple[Buffer, list[Trace]]:
    """Traces that are packed; of each the same spans came in each of its records."""
    buffer, home = a_buffer(1 << 21), Partition(0, 0, 10**9)
    for number in range(traces):
        root, *others = [span(number, 0), *calls(20)]
        for each in others:
            each.trace_id, each.attributes.add(key="url").value.string_value = root.trace_id, "/checkout/" * 10
        value = message([root, *others])
        for again in range(records):
            fragments = Scanner().fragments(value, Encoding.OTLP_PROTO, [])
            buffer.add(home, one_record(0, number * records + again, 100_000 + 50 * number, fragments), 10**12)
    buffer.reach(home, 10**9)
    assert buffer.take_counts().packed_traces > traces // 2
    return buffer, buffer.take()


TENTH = Decision(Verdict.KEEP, "rest", Reason.ROOT_QUIET, 0.1)


def states_of(payload: bytes) -> list[str]:
    data = TracesData.FromString(payload)
    return [each.trace_state for group in data.resource_spans for scope in group.scope_spans for each in scope.spans]


def without_states(payload: bytes) -> TracesData:
    data = TracesData.FromString(payload)
    for group in data.resource_spans:
        for scope in group.scope_spans:
            for each in scope.spans:
                each.trace_state = ""
    return data


def highest(*records: Sequence[Span], decision: Decision = TENTH) -> Trace:
    """A trace with the highest id, which every rate keeps."""
    home = Partition(0, 0, 0)
    trace = Trace(b"\xff" * 16, home, 0)
    for offset, spans in enumerate(records):
        for each in spans:
            each.trace_id = trace.trace_id
        (found,) = Scanner().fragments(message(spans), Encoding.OTLP_PROTO, [])
        trace.absorb(lone(found), 0)
        home.ledger.read(offset)
        trace.hold(home, offset, lone(found), 0)
    trace.reason, trace.decision = Reason.ROOT_QUIET, decision
    return trace


@pytest.mark.parametrize("size", [3, 5000])  # the second on a thread
async def test_law_7_every_span_of_a_kept_trace_says_by_which_rate(size: int) -> None:
    trace = highest([span(0, 0), *calls(size)], calls(2, first=size + 1))
    late = highest(calls(2))
    late.late = True
    before = without_states(trace.payload)
    _, meter = await prepared([trace, late], OFF, weights=True)
    assert states_of(trace.payload) == ["ot=th:e6666666666666"] * (size + 3)
    assert states_of(late.payload) == ["ot=th:e6666666666666"] * 2, "late spans follow"
    assert without_states(trace.payload) == before
    assert trace.payload_bytes == len(trace.payload) and trace.held_spans == size + 3
    assert meter.counted(measures.SPANS_UNWEIGHTED) == 0


async def test_law_7_a_composite_has_a_weight_too() -> None:
    trace = highest([span(0, 0), *calls(9)], calls(1))
    await prepared([trace], ON, weights=True)
    assert names_of(trace) == ["span 0", "GET"] and trace.held_spans == 2
    assert states_of(trace.payload) == ["ot=th:e6666666666666"] * 2


async def test_law_7_rate_1_says_so_and_a_rate_that_did_not_decide_says_nothing() -> None:
    forced = highest([span(0, 0)], decision=Decision(Verdict.KEEP, "force:why", Reason.ROOT_QUIET, 1.0))
    unknown = Decision(Verdict.KEEP, "share", Reason.ROOT_QUIET, 0.1, weighted=False)
    chosen, brought = highest([span(0, 0)], decision=unknown), highest([span(0, 0)], decision=unknown)
    brought_span = span(0, 1)
    brought_span.trace_state = "ot=th:8,v=1"
    with_head = highest([brought_span], decision=unknown)
    before = chosen.payload
    await prepared([forced, chosen, brought, with_head], OFF, weights=True)
    assert states_of(forced.payload) == ["ot=th:0"]
    assert chosen.payload is before
    assert states_of(with_head.payload) == ["v=1"]


async def test_spans_without_a_weight_are_counted_by_reason() -> None:
    states = ["a b c", "ot=p:2", "v=1," * 30 + "v=1", "ot=th:ff"]
    spans = [span(0, 0), *calls(3)]
    for each, state in zip(spans, states, strict=True):
        each.trace_state = state
    other = span(0, 0)
    other.trace_state = "ot=rv:00000000000001"  # by which it would not have been kept
    traces = [highest(spans), highest([other])]
    before = [trace.payload for trace in traces]
    _, meter = await prepared(traces, OFF, weights=True)
    reasons = ["invalid", "old_sampler", "full", "contradicted"]
    assert [meter.counted(measures.SPANS_UNWEIGHTED, reason) for reason in reasons] == [1, 1, 1, 1]
    assert [trace.payload for trace in traces] == before


async def test_law_7_a_trace_on_two_partitions_has_its_weight_on_both() -> None:
    trace, other = highest([span(0, 0), *calls(2)]), Partition(1, 0, 0)
    late = calls(3, first=5)
    for each in late:
        each.trace_id = trace.trace_id
    for offset, some in enumerate((late[:1], late[1:])):
        (found,) = Scanner().fragments(message(some), Encoding.OTLP_PROTO, [])
        other.ledger.read(offset)
        trace.hold(other, offset, lone(found), 0)
    size, before = trace.size, without_states(trace.payload)
    buffer = a_buffer()
    await prepared([trace], OFF, buffer, weights=True)
    assert states_of(trace.payload) == ["ot=th:e6666666666666"] * 6
    assert without_states(trace.payload) == before
    assert [len(states_of(part)) for part in trace.parts()] == [3, 3]
    assert trace.held_spans == 6 and trace.payload_bytes == len(trace.payload)
    assert buffer.closed_bytes == trace.size - size > 0
    trace.take_off()
    trace.let_go(other)
    assert (trace.held_spans, trace.payload_bytes) == (3, len(trace.payload))


HEAD_RATE = 0.4


def from_a_head_sampler(way: str, chance: random.Random) -> list[Span] | None:
    """Two spans of a trace as that kind of head sampler lets it through; None if it does not."""
    id, rv = chance.randbytes(16), chance.randrange(SPACE)
    spans = [span(0, 0, error=chance.random() < 0.05), span(0, 1, 0)]
    for each in spans:
        each.trace_id = id
    found = randomness(id) if way == "by the id" else rv
    if way != "nothing" and found < threshold(HEAD_RATE):
        return None
    th = "th:" + th_of(threshold(HEAD_RATE)).decode()
    if way == "by the id":
        spans[0].trace_state = spans[1].trace_state = f"v=1,ot={th}"
    elif way == "by rv":
        spans[0].trace_state = spans[1].trace_state = f"ot={th};rv:{rv:014x}"
    elif way == "by rv, lost on the way":  # a library between them does not pass trace states on
        spans[0].trace_state = f"ot=rv:{rv:014x};{th}"
    return spans


@pytest.mark.parametrize("way", ["nothing", "by the id", "by rv", "by rv, lost on the way"])
async def test_law_7_the_exported_spans_tell_how_many_there_were(way: str) -> None:
    """From the records of a topic to what is exported: only the trace states are known here."""
    chance, sampler = random.Random(way), Sampler(policies(Sampling(default_sample_rate=0.15)))
    buffer = Buffer(
        Limits(1 << 30, 10**9, 10**9, 10**9), Waits(30_000, 60_000, 10**9), Memory(), program=sampler.program
    )
    scanner, home, traces, truth = Scanner(program=sampler.program), Partition(0, 0, 0), list[Trace](), 6000
    for offset in range(truth):
        spans = from_a_head_sampler(way, chance)
        if spans is None:
            continue
        (found,) = scanner.fragments(message(spans), Encoding.OTLP_PROTO, [])
        trace = Trace(spans[0].trace_id, home, offset)
        trace.absorb(lone(found), 0, sampler.program)
        home.ledger.read(offset)
        trace.hold(home, offset, lone(found), 0)
        trace.reason = Reason.ROOT_QUIET
        trace.decision = sampler.decide(trace)
        if trace.decision.keeps:
            traces.append(trace)
    _, meter = await prepared(traces, OFF, buffer, weights=True)
    assert meter.counters.keys().isdisjoint({(measures.SPANS_UNWEIGHTED.name, (why,)) for why in REASONS.values()})
    exported = [
        each
        for trace in traces
        for group in TracesData.FromString(trace.payload).resource_spans
        for scope in group.scope_spans
        for each in scope.spans
    ]
    estimate = variance = 0.0
    for each in exported:
        told = tracestate.read(each.trace_state.encode())
        assert told is not None and told.th >= 0
        assert (told.rv if told.rv >= 0 else randomness(each.trace_id)) >= told.th, each
        if not each.parent_span_id:
            count = adjusted_count(told.th)
            estimate += count
            variance += count * (count - 1)
    assert len(exported) == 2 * len(traces) > 1000
    assert abs(estimate - truth) < 4 * variance**0.5


RATES = (0.3, 0.7, 0.05)


@pytest.mark.parametrize("way", ["by the id", "by rv"])
async def test_law_7_late_spans_carry_the_threshold_of_their_own_decision_whatever_the_rates_are_now(way: str) -> None:
    """A third of the traces is decided at each rate. Then each gets a late span without a trace state: its R is that of the
    decision, and its `th` too."""
    chance, traces = random.Random(way), 900
    samplers = [Sampler(policies(Sampling(default_sample_rate=rate))) for rate in RATES]
    program = samplers[0].program
    waits = Waits(1000, 1000, 10**9)
    buffer, scanner = Buffer(Limits(1 << 30, 10**9, 10**9, 10**9), waits, Memory(), program=program), Scanner(program)
    home, sent, rates = Partition(0, 0, 10**9, end=0), list[Span](), dict[bytes, float]()
    brought: list[int] = []

    def add(each: Span, at_ms: int) -> None:
        sent.append(each)
        buffer.add(home, scanned(scanner, message([each]), len(sent) - 1, at_ms), 10**12)

    for number in range(traces):
        root = span(0, 0)
        root.trace_id = chance.randbytes(16)
        brought.append(chance.randrange(SPACE) if way == "by rv" else UNKNOWN)
        root.trace_state = f"ot=rv:{brought[-1]:014x}" if way == "by rv" else ""
        add(root, 10_000 * (1 + number * len(RATES) // traces))
        sampler = samplers[max(0, number - 1) * len(RATES) // traces]  # the record closes the traces before it
        for trace in evaluate(buffer.take(), sampler, buffer).kept:
            assert trace.decision is not None
            rates[trace.trace_id] = trace.decision.rate
    buffer.reach(home, 60_000)
    rates |= {trace.trace_id: RATES[-1] for trace in evaluate(buffer.take(), samplers[-1], buffer).kept}
    for number in range(traces):
        late = span(0, 1, 0)
        late.trace_id = sent[number].trace_id
        add(late, 100_000)
    found = [trace for trace in buffer.take() if trace.late]
    assert {trace.trace_id for trace in found} == rates.keys() and {*rates.values()} == {*RATES}
    _, meter = await prepared(found, OFF, buffer, weights=True)
    assert meter.counters.keys().isdisjoint({(measures.SPANS_UNWEIGHTED.name, (why,)) for why in REASONS.values()})
    given = dict(zip((each.trace_id for each in sent), brought, strict=False))
    for trace in found:
        (state,) = states_of(trace.payload)
        told = tracestate.read(state.encode())
        assert told is not None
        assert (told.rv, told.th) == (given[trace.trace_id], threshold(rates[trace.trace_id]))
        assert (told.rv if told.rv >= 0 else randomness(trace.trace_id)) >= told.th


@pytest.mark.parametrize("is_packed", [True, False])
async def test_law_5_a_weight_packs_only_what_was_packed(*, is_packed: bool) -> None:
    if is_packed:
        buffer, traces = packed_and_closed(400, 1)
    else:
        buffer, traces = a_buffer(), [highest([span(0, 0), *calls(30)]) for _ in range(3)]
    kept_all = Decision(Verdict.KEEP, "all", Reason.ROOT_QUIET, 1.0)
    packed_before = sum(trace.is_packed() for trace in traces)
    for trace in traces:
        trace.decision = kept_all
    _, bytes_before = sum(trace.size for trace in traces), held(traces)[0]
    told, size = buffer.closed_bytes, sum(trace.size for trace in traces)
    await prepared(traces, OFF, buffer, weights=True)
    assert all({*states_of(trace.payload)} == {"ot=th:0"} for trace in traces)
    assert buffer.closed_bytes - told == sum(trace.size for trace in traces) - size
    assert sum(trace.is_packed() for trace in traces) >= 0.9 * packed_before
    assert bool(packed_before) is is_packed
    assert held(traces)[0] < bytes_before * (1.2 if is_packed else 1.5)


@pytest.mark.parametrize("compression", [ON, OFF])
async def test_law_5_a_packed_trace_that_is_rewritten_holds_what_is_told(compression: SpanCompression) -> None:
    buffer, traces = packed_and_closed(400, 2)
    for trace in traces:
        buffer.decided(trace, KEPT)
    told, (bytes_before, packed) = buffer.held_by_kind()["closed"], held(traces)
    assert sum(trace.payload_bytes for trace in traces) > 3 * bytes_before
    _, meter = await prepared(traces, compression, buffer)
    assert meter.counted(measures.DUPLICATES_REMOVED) == 21 * len(traces)
    bytes_after, _ = held(traces)
    growth = buffer.held_by_kind()["closed"] - told
    assert growth == pytest.approx(bytes_after - bytes_before, abs=500 * packed), "500 for what opens a packed chunk"
    assert bytes_after <= bytes_before, "what had to be packed before is packed again"
    buffer.settle_all(traces)
    assert buffer.held_by_kind()["closed"] == 0


def test_law_5_so_does_one_of_which_another_replica_has_delivered_a_part() -> None:
    buffer, traces = packed_and_closed(400, 3)
    told, (bytes_before, packed) = buffer.held_by_kind()["closed"], held(traces)
    sent = len(traces) * (SENT_BYTES + 2 * SENT_RECORD_BYTES)
    late = []
    for trace in traces:
        known = Kept(KEPT, (0, trace.first_offset))
        known.covered = {0: trace.first_offset}
        late += buffer.kept_elsewhere(trace, known)
    assert late == traces and {trace.held_spans for trace in traces} == {42}
    bytes_after, _ = held(traces)
    growth = buffer.held_by_kind()["closed"] - told - sent
    assert growth == pytest.approx(bytes_after - bytes_before, abs=500 * packed)
    assert bytes_after <= bytes_before
    buffer.settle_all(traces)
    assert buffer.held_by_kind()["closed"] == 0


def test_law_5_late_spans_of_what_another_replica_dropped_are_held_until_they_are_counted() -> None:
    buffer = Buffer(Limits(1 << 30, 10**9, 10**9, 10**9), Waits(1000, 1000, 10**9), Memory(), observed=True)
    home = Partition(0, 0, 10**9, end=0)
    value = message([span(0, 0), *calls(200)])
    buffer.add(home, one_record(0, 0, 100_000, Scanner().fragments(value, Encoding.OTLP_PROTO, [])), 10**12)
    buffer.reach(home, 10**9)
    [trace] = buffer.take()
    buffer.dropped_elsewhere(trace)
    assert buffer.held_by_kind()["closed"] == 0
    assert buffer.held_by_kind()["polled"] >= len(value), "no batch in work holds their bytes"
    assert buffer.take_late_dropped() == [(trace_id(0), [value])]
    assert buffer.held_by_kind()["polled"] == 0
