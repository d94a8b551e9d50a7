"""What the demo's traffic promises to those who use it: the demo itself, and tests that need realistic records."""

import itertools
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from demo.traffic import ERROR, SLOW, Message, Mix, Trace, in_order, traces

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
