"""The rate of a head sampler has one reader: what Datadog counts and what span metrics count is of the same rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tss.core.formats.datadog.weight import kept_share
from tss.core.formats.spanmetrics.weight import MOST, weight
from tss.core.head import Head, head
from tss.core.policies.probability import SPACE, threshold
from tss.core.weights import Weight, th_of, weighed


@pytest.mark.parametrize(
    ("sample_rate", "trace_state", "found"),
    [
        (None, "", None),
        (None, "ot=th:c", Head(0.25, own=False)),
        (None, "ot=th:0", Head(1, own=False)),
        (None, "ot=th:ffffffffffffff", Head(2**-56, own=False)),
        (None, "ot=rv:d29d6a7215ced0;th:c;x:y,vendor=1", Head(0.25, own=False)),
        (None, "a=b,\t ot=th:8 \t,c=d", Head(0.5, own=False)),
        (None, "ot=p:2;r:5", Head(0.25, own=True)),
        (None, "ot=p:0", Head(1, own=True)),
        (None, "ot=p:2;th:8", Head(0.5, own=False)),  # p is what there was before th
        (None, "ot=th:zz;p:1", None),  # pkg/sampling: one error, and the trace state says nothing
        (None, "ot=p:63", None),  # not sampled, and here it is
        (None, "ot=p:64", None),
        (None, "ot=p:-1", None),
        (None, "ot=th:", None),
        (None, "ot=th:C", Head(0.25, own=False)),  # the specification writes lower case; pkg/sampling reads both
        (None, "ot=th: c", None),
        (None, "ot=th:123456789abcdef", None),
        (None, "not=th:8", None),
        (None, "ot =th:8", None),
        (None, "ot=th:8;th:c", Head(0.25, own=False)),  # of two equal keys pkg/sampling takes the last, here and below
        (None, "ot=th:8,ot=th:c", Head(0.25, own=False)),
        (0.1, "ot=th:8", Head(0.1, own=True)),
        (1, "ot=th:8", Head(1, own=True)),
        (0.0, "ot=th:8", Head(0.5, own=False)),
        (1.5, "ot=th:8", Head(0.5, own=False)),
        (float("nan"), "ot=th:8", Head(0.5, own=False)),
        (float("inf"), "", None),
        (True, "", None),
        ("0.5", "", None),
        (b"", "", None),
    ],
)
def test_what_a_span_tells_of_its_head_sampler(sample_rate: object, trace_state: str, found: Head | None) -> None:
    assert head(sample_rate, trace_state) == found


pieces = st.sampled_from(
    ["ot=", "th:", "rv:", "p:", "r:", "c", "8", "63", "1", ";", ",", "=", " ", "\t", "x", "\ufffd"]
)


@given(st.lists(pieces, max_size=10).map("".join), st.sampled_from([None, 0.5, 0.0, -1, float("nan"), "x"]))
def test_datadog_and_span_metrics_read_the_same_rate(trace_state: str, sample_rate: float | str | None) -> None:
    share = kept_share(sample_rate, trace_state, 1.0)
    assert 0 < share <= 1
    assert weight(sample_rate, trace_state.encode()) == 1 / max(share, 1 / MOST)


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_law_7_a_written_weight_changes_no_share(head_rate: float, rate: float) -> None:
    """Whether the head sampler's threshold or the larger of both is on the span: Datadog is told the same."""
    state = b"ot=th:" + th_of(threshold(head_rate))
    written, _ = weighed(state, Weight(threshold(rate), SPACE - 1))
    told = [kept_share(None, each.decode(), rate) for each in (state, state if written is None else written)]
    assert told[0] == pytest.approx(min(head_rate, rate)) == pytest.approx(told[1])


def test_law_7_a_rate_that_is_no_threshold_is_independent_of_the_head_sampler() -> None:
    assert kept_share(None, "ot=th:c", 0.1, weighted=False) == pytest.approx(0.025)
    assert kept_share(None, "ot=th:c", 0.1) == pytest.approx(0.1)
    assert kept_share(None, "", 0.1, weighted=False) == 0.1
