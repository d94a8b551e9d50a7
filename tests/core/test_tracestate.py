"""A trace state is read as pkg/sampling reads it. The expected answers are of its v0.161 (`NewW3CTraceState`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tss.core.tracestate import SAW_OT, SAW_RV, SAW_TH, Ot, read, weight_of

RV = 0x0123456789ABCD


@pytest.mark.parametrize(
    ("trace_state", "found"),
    [
        ("", None),
        ("v=1", None),
        ("ot=th:c", Ot(th=0xC << 52)),
        ("ot=th:C", Ot(th=0xC << 52)),
        ("ot=th:0", Ot(th=0)),
        ("ot=rv:0123456789abcd", Ot(rv=RV)),
        ("ot=rv:0123456789ABCD;th:8", Ot(rv=RV, th=8 << 52)),
        ("ot=rv:0123456789abc", None),
        ("ot=rv:0123456789abcde", None),
        ("ot=rv:0123456789abcg;th:8", None),
        ("ot=th:", None),
        ("ot=th:123456789abcdef", None),
        ("ot=th:zz", None),
        ("ot=th:8;p:1;r:2", Ot(th=8 << 52, others=(("p", "1"), ("r", "2")))),
        ("ot=th:8;", None),
        ("ot=;th:8", None),
        ("ot=th:8;;p:1", None),
        ("ot=x", None),
        ("ot=X:1", None),
        ("ot=x:", Ot(others=(("x", ""),))),
        ("ot=th:8;th:c", Ot(th=0xC << 52)),
        ("ot=th:8,ot=th:c", Ot(th=0xC << 52)),
        ("ot=th:8,ot=x:1", Ot(others=(("x", "1"),))),
        ("ot=th:8,ot=th:zz", None),
        (" \tot=th:8 \t, v=1,", Ot(th=8 << 52)),
        (",,ot=th:8", Ot(th=8 << 52)),
        ("ot =th:8", None),
        ("ot= th:8", None),
        ("ot=th:8,V=1", None),
        ("ot=th:8,v", None),
        ("ot=th:8,v=", None),
        ("ot=th:8,v=a=b", None),
        ("ot=th:8,1a@b=c", Ot(th=8 << 52)),
        ("ot=th:8,1a@1b=c", None),
        ("ot=th:8,1a=c", None),
        (f"ot=th:8,a@{'b' * 14}=c", Ot(th=8 << 52)),
        (f"ot=th:8,a@{'b' * 15}=c", None),
        (f"ot=th:8,{'a' * 241}@b=c", Ot(th=8 << 52)),
        (f"ot=th:8,{'a' * 242}@b=c", None),
        (f"ot=th:8,v={'a' * 256}", Ot(th=8 << 52)),
        (f"ot=th:8,v={'a' * 257}", None),
        ("ot=th:8" + ",v=1" * 30, Ot(th=8 << 52)),
        ("ot=th:8" + ",v=1" * 31, None),
        ("ot=th:8" + ",v=1" * 30 + ",", Ot(th=8 << 52)),
        ("ot=th:8,\N{LATIN SMALL LETTER E WITH ACUTE}=1", None),
    ],
)
def test_what_a_trace_state_says(trace_state: str, found: Ot | None) -> None:
    assert read(trace_state.encode()) == found


def test_the_marks_and_the_randomness() -> None:
    assert weight_of(b"v=1") == (0, -1)
    assert weight_of(b"ot=x:1") == (SAW_OT, -1)
    assert weight_of(b"ot=th:8") == (SAW_OT | SAW_TH, -1)
    assert weight_of(b"ot=rv:0123456789abcd") == (SAW_OT | SAW_RV, RV)
    assert weight_of(b"ot=rv:0123456789abcd;th:8,ot=x:y") == (SAW_OT, -1)


@given(st.binary(max_size=40).map(lambda rest: b"ot=" + rest))
def test_whatever_the_bytes_it_never_raises(trace_state: bytes) -> None:
    marks, rv = weight_of(trace_state)
    assert (rv >= 0) == bool(marks & SAW_RV)
