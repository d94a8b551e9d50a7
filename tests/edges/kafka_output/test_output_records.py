"""A trace as records of the output topic, and back."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import message, span, trace_id
from tss.core.decision import Decision, Reason, Verdict
from tss.edges.kafka_output.output_records import (
    COVERS,
    DECISION,
    PART,
    ConsumedTopic,
    Output,
    RecordTooLarge,
    output_traces_of,
    records,
)

KEEP = Decision(Verdict.KEEP, "latency", Reason.INACTIVE, 0.25)
SOURCE = ConsumedTopic("group", "spans")
PAYLOAD = message([span(1, 0)])


def output(payload: bytes = PAYLOAD, covers: dict[int, list[int]] | None = None) -> Output:
    return Output(trace_id(1), payload, KEEP, covers or {3: [100, 101, 250]})


def test_one_record_as_it_stands_in_the_topic() -> None:
    ((value, headers),) = records(output(), SOURCE, 1000)
    assert value == PAYLOAD
    assert headers == [
        ("tss-decision", b'{"policy":"latency","reason":"inactive","rate":0.25}'),
        ("tss-covers", b'{"group":"group","topic":"spans","offsets":{"3":[100,1,149]}}'),
    ]


def test_a_record_says_that_its_decision_has_no_weight() -> None:
    unweighted = attrs.evolve(output(), decision=attrs.evolve(KEEP, weighted=False))
    ((_, headers),) = records(unweighted, SOURCE, 1000)
    # The version before reads policy, reason, rate and to, and nothing else.
    assert dict(headers)[DECISION] == b'{"policy":"latency","reason":"inactive","rate":0.25,"weighted":false}'
    found = output_traces_of(trace_id(1).hex().encode(), dict(headers), SOURCE)
    assert found is not None and found[1][3].decision == unweighted.decision


def test_law_2_a_record_with_a_reason_to_come_counts() -> None:
    key, decision = TOLD
    found = output_traces_of(key, {COVERS: GOLDEN, DECISION: decision.replace(b"inactive", b"whim")}, SOURCE)
    assert found is not None and found[1][3].decision.reason is Reason.OTHER


def test_a_record_of_the_version_before_has_a_weight() -> None:
    key, decision = TOLD
    found = output_traces_of(key, {COVERS: GOLDEN, DECISION: decision}, SOURCE)
    assert found is not None and found[1][3].decision.weighted


OLD_ID, NEW_ID = "jVB9X2AhRZWcVq2WlKqt2A", "aaaaX2AhRZWcVq2WlKqt2A"
TOLD = (trace_id(1).hex().encode(), b'{"policy":"latency","reason":"inactive","rate":0.25}')
# As the version before wrote it, and as this one does where the brokers tell the topic's id.
GOLDEN = b'{"group":"group","topic":"spans","offsets":{"3":[100,1,149]}}'
GOLDEN_WITH_ID = b'{"group":"group","topic":"spans","offsets":{"3":[100,1,149]},"id":"jVB9X2AhRZWcVq2WlKqt2A"}'


def test_a_record_says_of_which_topic_its_offsets_are() -> None:
    ((_, headers),) = records(attrs.evolve(output(), topic_id=OLD_ID), SOURCE, 1000)
    assert dict(headers)[COVERS] == GOLDEN_WITH_ID


@pytest.mark.parametrize(
    ("covers", "topic_id", "found"),
    [
        (GOLDEN, "", True),
        (GOLDEN, NEW_ID, True),  # of the version before, in the middle of an update
        (GOLDEN_WITH_ID, "", True),  # what the version before does with it, and who may not ask the brokers
        (GOLDEN_WITH_ID, OLD_ID, True),
        (GOLDEN_WITH_ID, NEW_ID, False),
    ],
)
def test_law_1_what_is_of_a_topic_that_was_deleted_is_not_taken_for_delivered(
    covers: bytes, topic_id: str, found: bool
) -> None:
    key, decision = TOLD
    told = output_traces_of(key, {COVERS: covers, DECISION: decision}, attrs.evolve(SOURCE, topic_id=topic_id))
    assert (told is not None) is found
    if told is not None:
        assert told[1][3].offsets == (100, 101, 250)


@given(
    st.dictionaries(
        st.integers(0, 50), st.sets(st.integers(0, 10**12), min_size=1, max_size=30).map(sorted), min_size=1, max_size=4
    )
)
def test_what_it_covers_comes_back(covers: dict[int, list[int]]) -> None:
    ((_, headers),) = records(output(covers=covers), SOURCE, 10**6)
    found = output_traces_of(trace_id(1).hex().encode(), dict(headers), SOURCE)
    assert found is not None
    id, delivered = found
    assert id == trace_id(1)
    assert {number: sorted(each.offsets) for number, each in delivered.items()} == covers
    assert all(each.decision == KEEP for each in delivered.values())
    assert all((each.first, each.last) == (covers[id][0], covers[id][-1]) for id, each in delivered.items())


@pytest.mark.parametrize("source", [ConsumedTopic("other", "spans"), ConsumedTopic("group", "other")])
def test_records_of_another_daemon_are_not_ours(source: ConsumedTopic) -> None:
    ((_, headers),) = records(output(), source, 1000)
    assert output_traces_of(trace_id(1).hex().encode(), dict(headers), SOURCE) is None


@pytest.mark.parametrize("covers", [b"", b"{", b"[]", b"7", b"null", b'{"group":"group","topic":"spans"}',
                                    b'{"group":"group","topic":"spans","offsets":{"x":[1]}}',
                                    b'{"group":"group","topic":"spans","offsets":7}'])  # fmt: skip
def test_headers_that_somebody_else_made_up_are_let_be(covers: bytes) -> None:
    told = json.dumps({"policy": "p", "reason": "inactive", "rate": 1}).encode()
    assert output_traces_of(b"00" * 16, {COVERS: covers, DECISION: told}, SOURCE) is None
    assert output_traces_of(None, {}, SOURCE) is None


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(900, 3000))
def test_a_large_trace_is_cut_between_resources(sizes: list[int], max_bytes: int) -> None:
    """No byte is lost or changed, no record is too large, and the first tells what all of them cover."""
    payload = b"".join(message([span(1, number) for number in range(size)]) for size in sizes)
    try:
        made = records(output(payload), SOURCE, max_bytes)
    except RecordTooLarge as error:
        pytest.fail(f"each of its resources fits into a record: {error}")
    assert b"".join(value for value, _ in made) == payload
    assert all(value for value, _ in made)
    for value, headers in made:
        assert len(value) + sum(len(name) + len(told) for name, told in headers) + 32 <= max_bytes
    covering = [COVERS in dict(headers) for _, headers in made]
    assert covering == [True] + [False] * (len(made) - 1)
    if len(made) > 1:
        assert [dict(headers)[PART] for _, headers in made] == [
            f"{number}/{len(made)}".encode() for number in range(1, len(made) + 1)
        ]


def test_a_resource_that_no_record_can_hold_is_refused() -> None:
    with pytest.raises(RecordTooLarge, match="one resource has"):
        records(output(message([span(1, number) for number in range(60)])), SOURCE, 1000)


OURS = b'{"group":"group","topic":"spans","offsets":{"0":%s}}'


@pytest.mark.parametrize(
    ("key", "covers", "told"),
    [
        (b"00" * 16, OURS % b"[1e999]", b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"00" * 16, OURS % b"[9223372036854775808]", b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"00" * 16, OURS % b"[-1]", b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"00" * 16, OURS % (b"[" * 100_000), b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"00" * 16, OURS % b"[1]", b"[" * 100_000),
        (b"00" * 16, OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":0}'),
        (b"00" * 16, OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":NaN}'),
        (b"00" * 16, OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":1' + b"0" * 400 + b"}"),
        (b"00" * 15, OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"", OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":1}'),
        (b"\xff", OURS % b"[1]", b'{"policy":"p","reason":"inactive","rate":1}'),
    ],
)  # fmt: skip
def test_headers_that_look_like_ours_and_are_not_are_let_be(key: bytes, covers: bytes, told: bytes) -> None:
    assert output_traces_of(key, {COVERS: covers, DECISION: told}, SOURCE) is None
