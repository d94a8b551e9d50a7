"""By age and by liveliness, whatever comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import trace_id
from tss.core.opentraces import OpenTraces
from tss.core.partition import Partition
from tss.core.trace import Trace

HOME = Partition(0, 0, 10**9)

steps = st.lists(
    st.tuples(st.sampled_from(["add", "touch", "touch", "remove", "pack"]), st.integers(0, 100)), max_size=80
)


@given(steps)
def test_oldest_and_quietest_are_those_of_two_plain_lists(steps: list[tuple[str, int]]) -> None:
    traces = OpenTraces()
    by_age: list[Trace] = []
    by_life: list[Trace] = []
    packed: set[bytes] = set()
    for number, (step, which) in enumerate(steps):
        if step == "add":
            trace = Trace(trace_id(number), HOME, number)
            traces.add(trace)
            by_age.append(trace)
            by_life.append(trace)
        elif by_age and step == "touch":
            trace = by_age[which % len(by_age)]
            traces.touch(trace)
            by_life.remove(trace)
            by_life.append(trace)
            packed.discard(trace.trace_id)
        elif by_age and step == "remove":
            trace = by_age.pop(which % len(by_age))
            traces.remove(trace)
            by_life.remove(trace)
        elif step == "pack" and traces.to_pack is not None:
            packed.add(traces.to_pack.trace_id)
            traces.to_pack = traces.to_pack.livelier
        assert traces.all() == by_age
        assert len(traces) == len(by_age)
        assert traces.oldest is (by_age[0] if by_age else None)
        assert traces.to_pack is next((each for each in by_life if each.trace_id not in packed), None)
        assert all(traces.get(each.trace_id) is each and each.trace_id in traces for each in by_age)
