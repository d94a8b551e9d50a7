"""Law 7 on the wire: what a span's trace state says of its weight is true, and everything else of it stays."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tests.core.otlp_records import LENGTH, Node, Record, blob, damaged, records, span_bodies_in, varint
from tests.core.spans import message, span
from tests.core.test_otlp_rewriting import expected, nodes_of_spans
from tss.core import tracestate
from tss.core.compression.outline import Outline
from tss.core.decision import Decision, Reason, Verdict
from tss.core.otlp import tracestates
from tss.core.otlp.counts import with_counts
from tss.core.otlp.tracestates import Change
from tss.core.otlp.wire import WireError, fields
from tss.core.policies.probability import SPACE, randomness, threshold
from tss.core.weights import (
    CONTRADICTED,
    FULL,
    INVALID,
    MOST_BYTES,
    OLD,
    UNKNOWN,
    WEIGHTED,
    TraceState,
    Weight,
    adjusted_count,
    chance_of,
    count_of,
    th_of,
    threshold_of,
    weighed,
)

try:
    from tss.core.otlp.restating import with_states as in_use
except ImportError:  # nothing is compiled
    from tss.core.otlp.tracestates import with_states as in_use

# Answers of pkg/sampling v0.161 to random questions.
ANSWERS = [json.loads(line) for line in (Path(__file__).parent / "answers/thresholds.jsonl").read_text().splitlines()]
HIGHEST = SPACE - 1
QUARTER = threshold(0.25)  # c


def asked(op: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(each["asked"], each["answer"]) for each in ANSWERS if each["asked"]["op"] == op]


# -- against the Collector's own code


def test_thresholds_are_those_of_the_collector() -> None:
    for question, answer in asked("probability"):
        found = threshold(question["p"])
        if "error" in answer:  # it refuses what is below the smallest share; here that is rounded
            assert question["p"] < 1 / SPACE and found >= SPACE - 1
            continue
        assert (found, th_of(found).decode()) == (answer["unsigned"], answer["th"]), question
        assert math.isclose(adjusted_count(found), answer["adjusted"], rel_tol=1e-12)
    assert len(asked("probability")) > 100


def test_trace_states_are_those_of_the_collector() -> None:
    """It does not compare with the randomness, so ours is the highest where the trace state brings none."""
    kinds = {"left": 0, "written": 0, "refused": 0}
    for question, answer in asked("update"):
        text, own = question["ts"].encode(), threshold_of(question["th"].encode())
        new, outcome = weighed(text, Weight(own, HIGHEST))
        if "error" in answer:
            assert (new, outcome) == (None, INVALID), question
            kinds["left"] += 1
        elif outcome == WEIGHTED:
            # Where our threshold is no larger, the Collector's answer is a refusal, and the text stays as it came.
            assert new is not None or "refused" in answer or answer["unsigned"] == own, question
            if new is not None:
                assert new.decode() == answer["out"], question
            kinds["refused" if new is None else "written"] += 1
        elif outcome == OLD:  # it writes a threshold beside a rate in the old form, which it does not read
            assert "p:8" in question["ts"] and "th:" not in question["ts"], question
        else:
            assert outcome == CONTRADICTED and int(answer["rv"], 16) < answer["unsigned"], question
    assert min(kinds.values()) > 30, kinds


# -- a trace state


@pytest.mark.parametrize(
    ("text", "weight", "found"),
    [
        (b"", Weight(QUARTER, QUARTER), (b"ot=th:c", WEIGHTED)),
        (b"", Weight(QUARTER, QUARTER - 1), (None, CONTRADICTED)),
        (b"", Weight(0, 0), (b"ot=th:0", WEIGHTED)),
        (b"", Weight(UNKNOWN, HIGHEST), (None, WEIGHTED)),
        (b"v=1", Weight(QUARTER, HIGHEST), (b"ot=th:c,v=1", WEIGHTED)),
        (b"a=1,ot=x:1;th:8 , b=2", Weight(QUARTER, HIGHEST), (b"ot=th:c;x:1,a=1,b=2", WEIGHTED)),
        (b"v=1, ot=th:e", Weight(QUARTER, HIGHEST), (None, WEIGHTED)),  # the larger one stays, byte for byte
        (b"ot=th:C", Weight(QUARTER, HIGHEST), (None, WEIGHTED)),
        (b"ot=th:c", Weight(0, HIGHEST), (None, WEIGHTED)),  # rate 1 lowers nothing
        # Its own randomness counts, before that of the id.
        (b"ot=rv:c0000000000000", Weight(QUARTER, 0), (b"ot=rv:c0000000000000;th:c", WEIGHTED)),
        (b"ot=rv:bfffffffffffff", Weight(QUARTER, HIGHEST), (None, CONTRADICTED)),
        # What another span of the trace brought decided for all of them.
        (b"", Weight(QUARTER, 0, HIGHEST), (b"ot=rv:ffffffffffffff;th:c", WEIGHTED)),
        (b"ot=th:e", Weight(QUARTER, HIGHEST, HIGHEST), (b"ot=rv:ffffffffffffff;th:e", WEIGHTED)),
        (b"ot=rv:d0000000000000", Weight(QUARTER, 0, HIGHEST), (b"ot=rv:d0000000000000;th:c", WEIGHTED)),
        # A threshold that the span cannot have passed is no weight.
        (b"ot=th:e,v=1", Weight(QUARTER, QUARTER), (b"v=1", CONTRADICTED)),
        (b"ot=th:e", Weight(0, QUARTER), (b"", CONTRADICTED)),
        (b"ot=th:8;x:1", Weight(QUARTER, QUARTER - 1), (b"ot=x:1", CONTRADICTED)),
        # A decision without a weight leaves none.
        (b"ot=th:8;x:1", Weight(UNKNOWN, HIGHEST), (b"ot=x:1", WEIGHTED)),
        (b"ot=x:1", Weight(UNKNOWN, HIGHEST), (None, WEIGHTED)),
        (b"ot=rv:zz", Weight(UNKNOWN, HIGHEST), (None, INVALID)),
        (b"ot=p:2;r:5", Weight(QUARTER, HIGHEST), (None, OLD)),
        (b"ot=p:2;th:8", Weight(QUARTER, HIGHEST), (b"ot=th:c;p:2", WEIGHTED)),
    ],
)  # fmt: skip
def test_what_a_trace_state_becomes(text: bytes, weight: Weight, found: tuple[bytes | None, int]) -> None:
    assert weighed(text, weight) == found


def test_a_trace_state_without_room_loses_a_threshold_that_no_longer_holds() -> None:
    weight, long = Weight(threshold(0.1), HIGHEST), b"v=" + b"x" * 250
    crowded = b",".join(b"v%d=1" % number for number in range(tracestate.MOST_MEMBERS))
    assert weighed(crowded, weight) == (None, FULL)
    assert weighed(crowded[: crowded.rindex(b",")], weight)[1] == WEIGHTED
    assert weighed(long + b"," + long, weight) == (None, FULL)
    room = b"v=" + b"x" * (MOST_BYTES - len(long) - len(b",v=,ot=th:e6666666666666"))
    assert len(weighed(long + b"," + room, weight)[0] or b"") == MOST_BYTES
    assert weighed(long + b"," + room + b"x", weight) == (None, FULL)
    assert weighed(b"ot=th:8," + long + b"," + long, weight) == (long + b"," + long, FULL)
    ours = b"ot=x:" + b"1" * (tracestate.MOST_OF_OURS - 8)
    assert weighed(ours, weight) == (None, FULL)
    # One that is too long already may change if it does not grow.
    assert weighed(b"ot=th:8," + long + b"," + long, Weight(QUARTER, HIGHEST))[1] == WEIGHTED


HEX = st.integers(0, HIGHEST)
TEXTS = st.builds(
    lambda th, rv, pairs, members: TraceState(th, rv, pairs, members).text(),
    st.one_of(st.just(b""), HEX.map(th_of)),
    st.one_of(st.just(b""), HEX.map(lambda value: b"%014x" % value)),
    st.lists(st.sampled_from((b"x:1", b"y:", b"z2:a.B")), max_size=2),
    st.lists(st.sampled_from((b"v=1", b"a@b=x y", b"dd=s:1;t.dm:-4")), max_size=3),
)
WEIGHTS = st.builds(Weight, st.one_of(st.just(UNKNOWN), st.just(0), HEX), HEX, st.one_of(st.just(UNKNOWN), HEX))


@given(TEXTS, WEIGHTS)
def test_law_7_a_threshold_is_passed_never_lowered_and_the_rest_stays(text: bytes, weight: Weight) -> None:
    new, outcome = weighed(text, weight)
    before, after = TraceState.parse(text), TraceState.parse(text if new is None else new)
    assert before is not None and after is not None
    assert [*after.pairs, *after.members] == [*before.pairs, *before.members]
    assert after.rv == before.rv or (not before.rv and int(after.rv, 16) == weight.rv)
    if weight.threshold == UNKNOWN:
        assert not after.th
    elif outcome == WEIGHTED:
        highest = threshold_of(after.th)
        assert (int(after.rv, 16) if after.rv else weight.randomness) >= highest
        assert highest == max(weight.threshold, threshold_of(before.th) if before.th else 0)
    else:
        assert outcome == CONTRADICTED and not after.th
    again = weighed(text if new is None else new, weight)
    assert again[0] is None or outcome == CONTRADICTED, "a span that is prepared twice stays as it is"


@given(st.binary(max_size=60).map(lambda rest: b"ot=" + rest), WEIGHTS)
def test_whatever_the_bytes_they_are_read_and_the_result_is_valid(text: bytes, weight: Weight) -> None:
    new, outcome = weighed(text, weight)
    if outcome == INVALID:
        assert new is None
    elif new is not None:
        assert tracestate.members(new) is not None


@given(HEX)
def test_a_threshold_comes_back_from_its_text(value: int) -> None:
    text = th_of(value)
    assert 1 <= len(text) <= 14 and (text == b"0" or not text.endswith(b"0"))
    assert threshold_of(text) == value


# -- the estimate


@pytest.mark.parametrize("head", [1.0, 0.5, 0.03])
@pytest.mark.parametrize("brings", [False, True])
def test_law_7_the_kept_spans_tell_how_many_there_were(head: float, *, brings: bool) -> None:
    """A head sampler before, three rates by what a trace is, and no other knowledge than the trace states of what is kept."""
    drawn = random.Random(7)
    rates = {"error": 1.0, "slow": 0.2, "rest": 0.01}
    truth, estimate, variance = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0.0), dict.fromkeys(rates, 0.0)
    for _ in range(60_000):
        kind = drawn.choices([*rates], [1, 2, 12])[0]
        truth[kind] += 1
        id, rv = drawn.randbytes(16), drawn.randrange(SPACE)
        state = b"ot=rv:%014x;th:%b" % (rv, th_of(threshold(head))) if brings else b""
        found = rv if brings else randomness(id)
        if brings and found < threshold(head):
            continue
        rate = rates[kind]
        if found < threshold(rate):
            continue
        weight = Weight.of(Decision(Verdict.KEEP, kind, Reason.ROOT_QUIET, rate), id, rv if brings else UNKNOWN)
        new, outcome = weighed(state, weight)
        text = state if new is None else new
        assert outcome == WEIGHTED
        told = tracestate.read(text)
        assert told is not None and found >= told.th
        count = adjusted_count(told.th)
        estimate[kind] += count
        variance[kind] += count * (count - 1)
        assert math.isclose(count_of(text, weight), count)
    for kind, real in truth.items():
        assert abs(estimate[kind] - real) <= 4 * math.sqrt(variance[kind]), (kind, estimate[kind], real)
        if (not brings or head == 1.0) and kind == "error":
            assert estimate[kind] == real


def test_counts_in_whole_numbers_keep_their_sum() -> None:
    """1 / 0.3 is no integer: rounded by chance, over many traces the sum is right."""
    drawn = random.Random(11)
    ids = [id for _ in range(40_000) if randomness(id := drawn.randbytes(16)) >= threshold(0.3)]
    whole = [int(1 / 0.3) + (chance_of(id) < 1 / 0.3 % 1) for id in ids]
    assert set(whole) == {3, 4}
    assert abs(sum(whole) / len(whole) - 1 / 0.3) < 0.02


# -- a message


def with_states(message: bytes, change: Change) -> tuple[bytes, list[int]]:
    """What the daemon's function and the reference both find."""
    found = in_use(message, change)
    assert found == tracestates.with_states(message, change)
    return found


def body_with(body: bytes, new: bytes | None) -> bytes:
    """A span's body with that trace state, in the plainest way."""
    if new is None:
        return body
    pieces = [(tag, body[start:stop]) for tag, start, _, stop in fields(body, 0, len(body))]
    places = [place for place, (tag, _) in enumerate(pieces) if tag == (3 << 3 | LENGTH)]
    written = [piece for _, piece in pieces]
    if places:
        written[places[-1]] = blob(3, new)
    else:
        place = next((place for place, (tag, _) in enumerate(pieces) if tag >= 4 << 3), len(pieces))
        written.insert(place, blob(3, new))
    return b"".join(written)


def state_of(body: bytes) -> bytes:
    found = [body[start:stop] for tag, _, start, stop in fields(body, 0, len(body)) if tag == (3 << 3 | LENGTH)]
    return found[-1] if found else b""


@settings(max_examples=150, deadline=None)
@given(records(), st.integers(0, 4))
def test_law_6_of_a_span_only_the_trace_state_changes(record: Record, salt: int) -> None:
    def change(old: bytes) -> tuple[bytes | None, int]:
        kind = (len(old) + salt) % 5
        return (None if kind == 0 else b"" if kind == 1 else b"n" * kind * 60), kind

    nodes = [found for node in record.nodes for found in nodes_of_spans(node)]
    changes, outcomes = {}, [0] * 8
    for node, body in zip(nodes, span_bodies_in(record.raw), strict=True):
        new, outcome = change(state_of(body))
        outcomes[outcome] += 1
        if new is not None:
            whole = body_with(body, new)
            changes[id(node)] = head_of(node, body) + varint(len(whole)) + whole
    found, counted = with_states(record.raw, change)
    assert found == b"".join(expected(node, changes) for node in record.nodes)
    assert counted == outcomes
    if not changes:
        assert found is record.raw


def head_of(node: Node, body: bytes) -> bytes:
    """The tag of a span's field, as it stands there."""
    [(_, _, start, _)] = fields(node.raw, 0, len(node.raw))
    at = 0
    while node.raw[at] > 0x7F:
        at += 1
    assert node.raw[start:] == body
    return node.raw[: at + 1]


def states_in(payload: bytes) -> list[str]:
    data = TracesData.FromString(payload)
    return [each.trace_state for group in data.resource_spans for scope in group.scope_spans for each in scope.spans]


@pytest.mark.parametrize("restated", [in_use, tracestates.with_states])
def test_equal_trace_states_in_a_row_are_asked_for_once(
    restated: Callable[[bytes, Change], tuple[bytes, list[int]]],
) -> None:
    spans = [span(1, number) for number in range(4)]
    spans[2].trace_state = "v=1"
    questions: list[bytes] = []

    def change(old: bytes) -> tuple[bytes | None, int]:
        questions.append(old)
        return b"ot=th:c" + (b"," + old if old else b""), len(old)

    found, outcomes = restated(message(spans), change)
    assert states_in(found) == ["ot=th:c", "ot=th:c", "ot=th:c,v=1", "ot=th:c"]
    assert questions[:2] == [b"", b"v=1"] and len(questions) < 4
    assert outcomes == [3, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("restated", [in_use, tracestates.with_states])
def test_an_error_of_whoever_is_asked_is_passed_on(
    restated: Callable[[bytes, Change], tuple[bytes, list[int]]],
) -> None:
    def refuse(old: bytes) -> tuple[bytes | None, int]:
        raise LookupError(old)

    with pytest.raises(LookupError):
        restated(message([span(1, 1)]), refuse)


@settings(max_examples=300, deadline=None)
@given(st.one_of(damaged(), st.binary(max_size=40)), st.integers(0, 4))
def test_of_any_bytes_both_make_the_same_or_both_refuse_them(raw: bytes, salt: int) -> None:
    def change(old: bytes) -> tuple[bytes | None, int]:
        kind = (len(old) + salt) % 5
        return (None if kind == 0 else b"" if kind == 1 else b"n" * kind * 60), kind

    try:
        expected = tracestates.with_states(raw, change)
    except WireError:
        with pytest.raises(WireError):
            in_use(raw, change)
    else:
        assert in_use(raw, change) == expected


def test_long_spans_and_long_messages_have_right_lengths() -> None:
    spans = [span(1, number) for number in range(300)]
    for number, each in enumerate(spans):
        each.name = "x" * (number * 150)
    payload = message(spans)
    found, _ = with_states(payload, partial(weighed, weight=Weight(QUARTER, HIGHEST)))
    for each in spans:
        each.trace_state = "ot=th:c"
    assert found == message(spans)


# -- the number of spans as an attribute


def counted(spans: list[Span], weight: Weight, chance: float = 0.5) -> list[Span]:
    found = with_counts(message(spans), b"SampleRate", partial(count_of, weight=weight), chance)
    data = TracesData.FromString(found)
    return [each for group in data.resource_spans for scope in group.scope_spans for each in scope.spans]


def with_rate(**value: float) -> Span:
    made = span(1, 0)
    made.attributes.add(key="before").value.string_value = "1"
    made.attributes.add(key="SampleRate").value.MergeFrom(
        type(made.attributes[0].value)(**value)  # type: ignore[arg-type]  # int_value takes an int
    )
    made.attributes.add(key="after").value.int_value = 3
    return made


@pytest.mark.parametrize(
    ("made", "state", "rate", "found"),
    [
        (span(1, 0), "", 0.25, 4),
        (span(1, 0), "", 1.0, 1),
        (span(1, 0), "ot=th:e", 0.25, 8),
        (span(1, 0), "ot=th:8", 0.25, 4),
        (with_rate(int_value=5), "", 0.25, 20),
        (with_rate(double_value=2.5), "", 0.5, 5),
        (with_rate(int_value=0), "", 0.5, 2),
        (with_rate(int_value=-1), "", 0.5, 2),
        (with_rate(double_value=math.nan), "", 0.5, 2),
        (with_rate(string_value="7"), "", 0.5, 2),  # type: ignore[arg-type]  # no number
    ],
)
def test_a_span_tells_how_many_it_stands_for(made: Span, state: str, rate: float, found: int) -> None:
    made = Span.FromString(made.SerializeToString())
    made.trace_state = state
    [after] = counted([made], Weight(threshold(rate), HIGHEST))
    values = [each.value.int_value for each in after.attributes if each.key == "SampleRate"]
    assert values == [found]
    keys = [each.key for each in made.attributes]
    assert [each.key for each in after.attributes] == (keys or ["SampleRate"])
    for each in (made, after):
        del each.attributes[:]
    assert after == made


@pytest.mark.parametrize(("chance", "found"), [(0.0, 4), (0.32, 4), (0.34, 3), (0.9, 3)])
def test_a_count_is_rounded_by_chance(chance: float, found: int) -> None:
    [after] = counted([span(1, 0)], Weight(threshold(0.3), HIGHEST), chance)
    assert after.attributes[0].value.int_value == found


@pytest.mark.parametrize("state", ["ot=th:f", "ot=p:2"])
def test_an_unknown_count_is_not_told(state: str) -> None:
    made = span(1, 0)
    made.trace_state = state
    payload = message([made])
    assert with_counts(payload, b"SampleRate", partial(count_of, weight=Weight(0, QUARTER)), 0.5) is payload
    made.trace_state = ""
    assert counted([made], Weight(UNKNOWN, HIGHEST)) == [made]


@settings(max_examples=100, deadline=None)
@given(records(), st.floats(0, 0.999))
def test_law_6_with_a_count_the_rest_of_a_span_stays(record: Record, chance: float) -> None:
    found = with_counts(record.raw, b"k", lambda _: 2.0, chance)
    before, after = Outline(record.raw).spans, Outline(found).spans
    assert len(before) == len(after)
    for old, new in zip(span_bodies_in(record.raw), span_bodies_in(found), strict=True):
        kept = [piece for tag, piece in pieces_of(old) if tag != 0x4A]
        assert [piece for tag, piece in pieces_of(new) if tag != 0x4A] == kept


def pieces_of(body: bytes) -> list[tuple[int, bytes]]:
    return [(tag, body[start:stop]) for tag, start, _, stop in fields(body, 0, len(body))]
