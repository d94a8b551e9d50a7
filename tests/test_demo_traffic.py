"""What the demo's traffic promises to those who use it: the demo itself, and tests that need realistic records.

And what the demo says of it: a screen that fits, an ending that explains itself.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData
from rich.console import Console

from demo.arrivals import Arrived, OutputFile
from demo.servers import Ended
from demo.traffic import ERROR, SLOW, Message, Mix, Trace, in_order, traces
from demo.view import Metrics, State, screen, summary

EPOCH_NS = 1_790_000_000_000_000_000
MIX = Mix(errors=0.1, slow=0.05, rootless=0.02, late=0.1)


@pytest.fixture(scope="module")
def given() -> list[Trace]:
    return list(itertools.islice(traces(7, MIX, EPOCH_NS), 1000))


def spans_of(message: Message) -> Iterator[Span]:
    for resource in TracesData.FromString(message.value).resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def on_time(trace: Trace) -> list[Span]:
    messages = trace.messages[:-1] if trace.late else trace.messages
    return [span for message in messages for span in spans_of(message)]


def test_a_seed_gives_the_same_traffic_and_another_seed_another(given: list[Trace]) -> None:
    assert list(itertools.islice(traces(7, MIX, EPOCH_NS), 50)) == given[:50]
    assert next(traces(8, MIX, EPOCH_NS)) != given[0]


def test_each_record_has_one_trace_and_its_hex_id_as_key(given: list[Trace]) -> None:
    for trace in given:
        for message in trace.messages:
            assert message.key == trace.trace_id.hex().encode()
            assert {span.trace_id for span in spans_of(message)} == {trace.trace_id}
            assert message.spans == len(list(spans_of(message)))


def test_the_records_of_a_trace_have_each_of_its_spans_once(given: list[Trace]) -> None:
    for trace in given:
        ids = [span.span_id for message in trace.messages for span in spans_of(message)]
        assert len(ids) == len(set(ids))
        assert set(ids) == trace.span_ids


def test_why_is_what_the_spans_say_that_come_on_time(given: list[Trace]) -> None:
    for trace in given:
        spans = on_time(trace)
        lasted_ms = (max(s.end_time_unix_nano for s in spans) - min(s.start_time_unix_nano for s in spans)) / 1e6
        failed = any(span.status.code == Status.STATUS_CODE_ERROR for span in spans)
        assert (ERROR in trace.why) == failed
        assert (SLOW in trace.why) == (lasted_ms >= MIX.slow_ms)
        # Near the threshold a rounding could tell otherwise.
        assert abs(lasted_ms - MIX.slow_ms) > 1


def test_a_trace_looks_complete_without_its_late_spans_unless_its_root_is_lost(given: list[Trace]) -> None:
    for trace in given:
        spans = on_time(trace)
        ids = {span.span_id for span in spans}
        parents = {span.parent_span_id for span in spans}
        assert trace.rootless == (b"" not in parents)
        assert trace.rootless or parents - {b""} <= ids


def test_late_spans_come_late_and_all_others_soon_after_they_end(given: list[Trace]) -> None:
    for trace in given:
        sent = [message.at_secs for message in trace.messages]
        assert sent == sorted(sent)
        if trace.late:
            assert sent[-1] - sent[-2] >= MIX.late_secs[0]
        for message in trace.messages[: -1 if trace.late else None]:
            sent_ns = EPOCH_NS + message.at_secs * 1e9
            assert 0 < sent_ns - max(span.end_time_unix_nano for span in spans_of(message)) < 1e9
            assert message.timestamp_ms == pytest.approx(sent_ns / 1e6, abs=1)


def test_children_lie_below_spans_of_the_same_trace_and_never_start_before_them(given: list[Trace]) -> None:
    for trace in given:
        spans = {span.span_id: span for message in trace.messages for span in spans_of(message)}
        for span in spans.values():
            parent = spans.get(span.parent_span_id)
            if parent is not None:
                assert span.start_time_unix_nano >= parent.start_time_unix_nano
            assert span.end_time_unix_nano > span.start_time_unix_nano


def test_all_messages_come_in_order_and_none_is_lost(given: list[Trace]) -> None:
    ordered = list(in_order(given))
    times = [message.at_secs for message, _ in ordered]
    assert times == sorted(times)
    assert sorted(message.value for message, _ in ordered) == sorted(m.value for trace in given for m in trace.messages)


def test_it_never_has_to_look_far_ahead() -> None:
    taken = 0

    def counted() -> Iterator[Trace]:
        nonlocal taken
        for trace in traces(1, MIX, EPOCH_NS):
            taken += 1
            yield trace

    message, _ = next(in_order(counted()))
    assert taken < 10 + message.at_secs * 3 * MIX.traces_per_sec


def test_there_is_some_of_everything_in_about_the_share_asked_for(given: list[Trace]) -> None:
    def share(picked: list[Trace]) -> float:
        return len(picked) / len(given)

    assert share([trace for trace in given if ERROR in trace.why]) == pytest.approx(MIX.errors, rel=0.4)
    assert share([trace for trace in given if SLOW in trace.why]) == pytest.approx(MIX.slow, rel=0.5)
    assert share([trace for trace in given if len(trace.messages) > 1]) > 0.3
    assert any(trace.late and trace.why for trace in given)
    assert any(trace.late and not trace.why for trace in given)
    assert any(trace.rootless for trace in given)
    assert len({trace.service for trace in given}) > 1
    rate = len(given) / given[-1].began_secs
    assert rate == pytest.approx(MIX.traces_per_sec, rel=0.15)


# ---- the screen and the ending


def seen(reasons: int = 5) -> State:
    """An hour in, with numbers as long as they get."""
    state = State(Path(".cache/demo"), OutputFile(Path(".cache/demo/kept.jsonl")), slow_ms=1000.0)
    state.status = "degraded"
    state.health = {"exporter file": "starting", "kafka": "down"}
    state.now_secs, state.unsent, state.promises.kept_whole = 3600.0, 12, 5_312
    decided = [
        f'decisions_total{{verdict="{"keep" if n < 3 else "drop"}",policy="latency",reason="max_duration{n}"}} {10 ** (n % 5)}'
        for n in range(reasons)
    ]
    numbers = {
        "spans_ingested_total": 1_234_567,
        "kafka_consumer_lag": 123_456,
        "buffer_traces_current": 100_000,
        "buffer_spans_current": 1_000_000,
        "buffer_bytes_current": 11_000 * 2**20,
        "buffer_bytes_limit": 11_989 * 2**20,
        "kafka_uncommitted_records": 1_234_567,
        "decision_memory_dropped_current": 500_000,
        'late_spans_total{verdict="drop"}': 12_345,
        'late_spans_total{verdict="keep"}': 1_234,
    }
    state.scraped(1.0, Metrics("\n".join([*decided, *(f"{name} {value}" for name, value in numbers.items())]) + "\n"))
    for number in range(20):
        trace_id = bytes([number]) * 16
        trace = Arrived(trace_id, {b"span"}, errors=1, end_ns=2_266_000_000, root="GET /products/{id}")
        trace.service = "storefront"
        state.file.recent[trace_id] = trace
    return state


def lines_of(state: State, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height)
    with console.capture() as captured:
        console.print(screen(state, width, height))
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("width", "height", "reasons", "kept"),
    [(80, 24, 5, 3), (80, 24, 8, 0), (80, 24, 14, 0), (100, 40, 5, 12), (200, 50, 14, 12)],
)
def test_the_screen_fits_and_ends_with_its_footer(width: int, height: int, reasons: int, kept: int) -> None:
    lines = lines_of(seen(reasons), width, height)
    assert len(lines) <= height
    assert "…" not in "".join(lines)
    assert "Ctrl-C ends" in lines[-2]
    assert lines[-1].startswith("kept traces: .cache/demo/kept.jsonl   logs and settings: .cache/demo")
    assert sum("GET /products/{id}" in line for line in lines) == kept
    assert [line for line in lines if "open traces" in line and "100,000" in line]
    if reasons > 10:
        decided = sum("max_duration" in line for line in lines)
        assert decided == reasons or any(f"{reasons - decided} more" in line for line in lines)


def test_an_end_before_anything_was_due_says_so() -> None:
    told = summary(State(Path(), OutputFile(Path("kept.jsonl")), slow_ms=1000.0))
    assert "none decided" in told
    assert "too short: nothing was due yet" in told


def test_of_a_process_that_died_the_first_error_is_shown_and_its_last_lines() -> None:
    log = ["starting", "... [error    ] the disk is full", *(f"line {n}" for n in range(30))]
    told = str(Ended("daemon", 1, tuple(log))).splitlines()
    assert told[:2] == ["the daemon ended with exit code 1; its first error:", "  ... [error    ] the disk is full"]
    assert told[-1] == "  line 29"
    assert told[-16] == "the last it said:"
    assert "first error" not in str(Ended("daemon", 1, tuple(log[:5])))
