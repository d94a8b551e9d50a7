"""Deliveries: retried for as long as it takes, halved until the guilty are found, settled when all have accepted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import structlog
import trio
from trio.testing import MockClock

from tests.core.spans import fragment, lone, trace_id
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.decision import Decision, Reason, Verdict
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Rejected, Retrying
from tss.core.health import Health, State
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.state.lane import Lane
from tss.state.sharing import ALONE, Memories
from tss.tasks import exporter

HOME = Partition(0, 0, 0)


def kept(number: int, size: int = 10) -> Trace:
    trace = Trace(trace_id(number), HOME, 0)
    only = fragment(number, size=size)
    trace.absorb(lone(only), 0)
    HOME.ledger.read(HOME.ledger.next)
    trace.hold(HOME, HOME.ledger.next - 1, lone(only), 0)
    trace.decision = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)
    return trace


class Scripted:
    """A destination that answers from a list, then accepts; it remembers what it was sent and when."""

    def __init__(
        self, *answers: Outcome, name: str = "scripted", batching: Batching | None = None, comes_last: bool = False
    ) -> None:
        self.name = name
        self.comes_last = comes_last
        self.batching = batching or Batching(max_traces=4, linger_secs=1.0)
        self.retrying = Retrying(initial_secs=1.0, max_secs=8.0, probe_secs=30.0, quick_tries=2)
        self.answers = list(answers)
        self.refuses: set[bytes] = set()
        self.sent: list[tuple[float, list[bytes]]] = []

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        ids = [trace.trace_id for trace in traces]
        self.sent.append((trio.current_time(), ids))
        await trio.lowlevel.checkpoint()
        if self.answers:
            return self.answers.pop(0)
        return Rejected("http_400", "bad", blames_data=True) if self.refuses.intersection(ids) else Accepted()

    async def knock(self) -> bool:
        return True

    def forget(self, traces: Sequence[Trace]) -> None:
        pass


class Rig:
    """An exporter between two channels."""

    def __init__(self, *destinations: Scripted, memories: Memories = ALONE) -> None:
        self.memories = memories
        self.meter, self.health, self.letters = FakeMeter(), Health(), FakeDeadLetters()
        self.lanes = [
            Lane("traces", each, self.letters, self.health, self.meter, random.Random(1)) for each in destinations
        ]
        self.kept, self._kept_out = trio.open_memory_channel[list[Trace]](4)
        self._settled_in, self.settled = trio.open_memory_channel[list[Trace]](100)

    async def run(self) -> None:
        await exporter.run(self._kept_out, self._settled_in, self.lanes, self.meter, self.memories)

    def settled_now(self) -> list[Trace]:
        out: list[Trace] = []
        try:
            while True:
                out += self.settled.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return out


async def test_law_1_a_trace_settles_when_every_destination_has_it(autojump_clock: MockClock) -> None:
    one, other = Scripted(name="one"), Scripted(Again("http_503", "busy"), name="other")
    rig = Rig(one, other)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        traces = [kept(number) for number in range(3)]
        await rig.kept.send(traces)
        await trio.sleep(1.0001)
        assert len(one.sent) == 1
        assert rig.settled_now() == []
        await trio.sleep(30)
        assert rig.settled_now() == traces
        rig.kept.close()
    assert rig.meter.counted(measures.TRACES_SAMPLED) == 3
    assert rig.meter.counted(measures.SPANS_EXPORTED, "other") == 3
    assert rig.meter.counted(measures.EXPORT_ERRORS, "other", "http_503") == 1


async def test_what_was_to_go_to_an_exporter_that_is_gone_is_counted_and_told(autojump_clock: MockClock) -> None:
    """As late spans of a trace that was kept before the exporter was renamed. It goes to the others, and settles."""
    one, last = Scripted(name="one"), Scripted(name="topic", comes_last=True)
    rig = Rig(one, last)
    traces = [kept(number) for number in range(4)]
    for trace, chosen in zip(traces, [("old",), ("old", "one"), ("topic",), ("one", "topic")], strict=True):
        trace.decision = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0, chosen)
        trace.late = True
    with structlog.testing.capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            for trace in traces:
                await rig.kept.send([trace])
            await trio.sleep(100)
            assert sorted(trace.trace_id for trace in rig.settled_now()) == [trace.trace_id for trace in traces]
            rig.kept.close()
    assert [id for _, ids in one.sent for id in ids] == [traces[1].trace_id, traces[3].trace_id]
    assert [id for _, ids in last.sent for id in ids] == [traces[2].trace_id, traces[3].trace_id]
    assert rig.meter.counted(measures.SPANS_ASTRAY) == traces[0].held_spans + traces[1].held_spans
    [line] = [line for line in logged if "no longer in the settings" in line["event"]]
    assert line["exporters"] == ["old"] and line["spans"] == traces[0].held_spans


class SlowMemory(Memories):
    """Takes five seconds to remember, whatever it is given."""

    def __init__(self) -> None:
        self.kept: list[Sequence[Trace]] = []

    async def keep(self, traces: Sequence[Trace]) -> None:
        await trio.sleep(5)
        self.kept.append(traces)


async def test_what_is_delivered_is_remembered_before_it_settles_and_together(autojump_clock: MockClock) -> None:
    """A slow memory slows: what comes while it is asked waits, and goes with the next question."""
    memory = SlowMemory()
    rig = Rig(Scripted(batching=Batching(max_traces=1, linger_secs=0, max_in_flight=4)), memories=memory)
    traces = [kept(number) for number in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send(traces)
        await trio.sleep(4)
        assert rig.settled_now() == []
        await trio.sleep(7)
        assert rig.settled_now() == traces
        rig.kept.close()
    assert [len(each) for each in memory.kept] == [1, 3]


async def test_trouble_is_told_when_it_changes_and_from_time_to_time(autojump_clock: MockClock) -> None:
    rig = Rig(Scripted(*[Again("connect", "refused")] * 20, *[Again("http_503", "busy")] * 2))
    for number in range(2):
        rig.kept.send_nowait([kept(number)])
    rig.kept.close()
    with structlog.testing.capture_logs() as lines:
        await rig.run()
    told = [(line["event"].split(" ")[1], line.get("reason")) for line in lines if line["log_level"] != "debug"]
    assert told[0] == ("did", "connect")
    assert told[-1] == ("takes", None)
    assert ("did", "http_503") in told
    assert len(told) < 12


async def test_again_waits_as_long_as_the_destination_says(autojump_clock: MockClock) -> None:
    destination = Scripted(Again("http_429", "slow down", after_secs=17.0))
    rig = Rig(destination)
    rig.kept.send_nowait([kept(1)])
    rig.kept.close()
    await rig.run()
    (first, _), (second, _) = destination.sent
    assert 17 <= second - first <= 17.2


async def test_law_8_a_destination_that_is_away_is_tried_until_it_is_back(autojump_clock: MockClock) -> None:
    destination = Scripted(*[Again("connect", "refused")] * 50)
    rig = Rig(destination)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        rig.kept.send_nowait([kept(1)])
        rig.kept.close()
        await trio.sleep(1.5)
        while len(destination.sent) < 3:
            await trio.sleep(0.5)
        assert rig.health.components["exporter scripted"].state is State.DOWN
        assert "refused" in rig.health.components["exporter scripted"].detail
    waits = [later - earlier for (earlier, _), (later, _) in zip(destination.sent, destination.sent[1:], strict=False)]
    assert len(destination.sent) == 51
    assert max(waits) <= 8.0
    assert [component.state for component in rig.health.components.values()] == [State.UP]
    assert len(rig.settled_now()) == 1
    assert rig.letters.letters == []


async def test_a_wrong_setting_holds_everything_and_is_probed_slowly(autojump_clock: MockClock) -> None:
    destination = Scripted(Misconfigured("http_401", "401 Unauthorized"))
    rig = Rig(destination)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        rig.kept.send_nowait([kept(1)])
        rig.kept.close()
        await trio.sleep(2)
        assert "401 Unauthorized" in rig.health.components["exporter scripted"].detail
        assert not rig.settled_now()
    assert destination.sent[1][0] - destination.sent[0][0] == 30.0


async def test_law_4_only_the_traces_that_are_refused_are_put_aside(autojump_clock: MockClock) -> None:
    destination = Scripted(batching=Batching(max_traces=8, linger_secs=1.0))
    destination.refuses = {trace_id(3), trace_id(6)}
    rig = Rig(destination)
    traces = [kept(number) for number in range(8)]
    held = {(HOME.id, offset) for number in (3, 6) for _, offset in traces[number].holds()}
    rig.kept.send_nowait(traces)
    rig.kept.close()
    await rig.run()
    assert {letter.trace_id for letter in rig.letters.letters} == {trace_id(3).hex(), trace_id(6).hex()}
    assert {(letter.partition, letter.offset) for letter in rig.letters.letters} == held
    assert {(letter.reason, letter.destination) for letter in rig.letters.letters} == {("http_400", "scripted")}
    assert sorted(each.trace_id for each in rig.settled_now()) == sorted(each.trace_id for each in traces)
    assert rig.meter.counted(measures.SPANS_EXPORTED, "scripted") == 6
    assert rig.meter.counted(measures.TRACES_SAMPLED) == 6, "only traces that every destination has taken"


async def test_partial_success_is_not_sent_again_and_put_aside(autojump_clock: MockClock) -> None:
    destination = Scripted(Accepted(1, "too old"))
    rig = Rig(destination)
    rig.kept.send_nowait([kept(1), kept(2)])
    rig.kept.close()
    await rig.run()
    assert len(destination.sent) == 1
    assert [letter.reason for letter in rig.letters.letters] == ["partial_success"] * 2
    assert rig.meter.counted(measures.EXPORT_REJECTED, "scripted") == 1
    assert rig.meter.counted(measures.SPANS_EXPORTED, "scripted") == 1
    assert rig.meter.counted(measures.TRACES_SAMPLED) == 0, "it does not say which trace it has taken whole"


async def test_a_remark_is_told_from_time_to_time(autojump_clock: MockClock) -> None:
    destination = Scripted(*[Accepted(0, "soon full")] * 12)
    rig = Rig(destination)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            for number in range(12):
                rig.kept.send_nowait([kept(number)])
                await trio.sleep(10)
            rig.kept.close()
    told = [(line["remark"], line["times"]) for line in logs if "remark" in line]
    assert len(destination.sent) == 12
    assert told == [("soon full", 1), *[("soon full", 3)] * 3]


async def test_batches_are_as_the_destination_likes_them(autojump_clock: MockClock) -> None:
    destination = Scripted(batching=Batching(max_traces=3, linger_secs=1.0, max_bytes=5_000))
    rig = Rig(destination)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(4)])
        await trio.sleep(0.5)
        await rig.kept.send([kept(4)])
        await trio.sleep(3)
        await rig.kept.send([kept(5, size=9_000), kept(6, size=9_000)])
        rig.kept.close()
    batches = [(time, [int.from_bytes(id[:8], "big") - 1 for id in ids]) for time, ids in destination.sent]
    assert batches == [(0.0, [0, 1, 2]), (1.0, [3, 4]), (3.5, [5]), (3.5, [6])]


async def test_law_5_a_stuck_destination_is_felt_upstream(autojump_clock: MockClock) -> None:
    destination = Scripted(*[Again("connect", "refused")] * 10_000)
    rig = Rig(destination)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        sent = 0
        with trio.move_on_after(60):
            while True:
                await rig.kept.send([kept(0)] * 4)
                sent += 1
        # 4 in flight, one gathered, one being gathered from, 2 in the lane, one in the exporter's hand, 4 in the channel
        assert sent <= 13
        nursery.cancel_scope.cancel()


async def test_law_8_a_destination_that_is_down_gets_one_probe_at_a_time(autojump_clock: MockClock) -> None:
    """Six batches wait; of them one tries, ever more slowly, and the first that is taken lets all others through."""
    down_until = 300.0

    class Away(Scripted):
        async def send(self, traces: Sequence[Trace]) -> Outcome:
            self.sent.append((trio.current_time(), [trace.trace_id for trace in traces]))
            await trio.sleep(0.5)
            return Again("connect", "refused") if trio.current_time() < began + down_until else Accepted()

    began = trio.current_time()
    destination = Away(batching=Batching(max_traces=1, linger_secs=0.0, max_in_flight=6))
    destination.retrying = Retrying(initial_secs=1.0, max_secs=30.0, quick_tries=2)
    rig = Rig(destination)
    rig.kept.send_nowait([kept(number) for number in range(6)])
    rig.kept.close()
    await rig.run()
    times = [at - began for at, _ in destination.sent]
    quick = [at for at in times if at < 15]
    probes = [at for at in times if 15 <= at < down_until]
    assert len(quick) <= 6 * 3 + 5
    assert len(probes) < 60
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(probes))  # never two at once
    assert max(times) < down_until + 31
    assert len(rig.settled_now()) == 6


async def test_one_bad_batch_does_not_stop_those_that_are_taken(autojump_clock: MockClock) -> None:
    poison = trace_id(0)

    class Picky(Scripted):
        async def send(self, traces: Sequence[Trace]) -> Outcome:
            await trio.sleep(0.1)
            if traces[0].trace_id == poison and trio.current_time() < began + 1000:
                return Again("http_500", "this one crashes me")
            self.sent.append((trio.current_time(), [trace.trace_id for trace in traces]))
            return Accepted()

    began = trio.current_time()
    destination = Picky(batching=Batching(max_traces=1, linger_secs=0.0, max_in_flight=2))
    rig = Rig(destination)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        for number in range(90):
            await rig.kept.send([kept(number)])
            await trio.sleep(0.2)
        assert trio.current_time() - began < 60
        assert len(destination.sent) >= 88
        assert rig.health.components["exporter scripted"].state is State.UP
        rig.kept.close()
    assert len(destination.sent) == 90


async def test_a_failed_probe_by_a_batch_that_was_never_tried_keeps_it_down(autojump_clock: MockClock) -> None:
    destination = Scripted(
        *[Again("connect", "refused")] * 12, batching=Batching(max_traces=1, linger_secs=0.0, max_in_flight=1)
    )
    rig = Rig(destination)
    rig.kept.send_nowait([kept(number) for number in range(3)])
    rig.kept.close()
    await rig.run()
    assert len(rig.settled_now()) == 3
    assert rig.health.components["exporter scripted"].state is State.UP


def routed(number: int, *names: str) -> Trace:
    trace = kept(number)
    trace.decision = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0, names)
    return trace


async def test_traces_go_where_their_decision_says(autojump_clock: MockClock) -> None:
    one, other = Scripted(name="one"), Scripted(name="other")
    rig = Rig(one, other)
    traces = [routed(0, "one"), routed(1, "other"), routed(2, "one", "other"), routed(3), kept(4)]
    rig.kept.send_nowait(traces)
    rig.kept.close()
    await rig.run()
    assert [ids for _, ids in one.sent] == [[trace_id(0), trace_id(2), trace_id(4)]]
    assert [ids for _, ids in other.sent] == [[trace_id(1), trace_id(2), trace_id(4)]]
    assert {trace.trace_id for trace in rig.settled_now()} == {trace_id(number) for number in range(5)}
    assert rig.meter.counted(measures.TRACES_SAMPLED) == 4
    assert rig.meter.counted(measures.TRACES_UNROUTED) == 1


async def test_law_1_the_destination_that_keeps_the_record_comes_last(autojump_clock: MockClock) -> None:
    slow = Scripted(*[Again("http_503", "busy")] * 4, name="slow")
    record = Scripted(name="record", comes_last=True)
    rig = Rig(record, slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        rig.kept.send_nowait([kept(0), routed(1, "record"), routed(2, "slow")])
        rig.kept.close()
        while not slow.sent:
            await trio.sleep(0.1)
        while record.sent == [] or trace_id(0) not in record.sent[-1][1]:
            await trio.sleep(0.1)
            if any(trace_id(0) in ids for _, ids in record.sent):
                assert slow.answers == []
    assert slow.answers == []
    assert sorted(id for _, ids in record.sent for id in ids) == [trace_id(0), trace_id(1)]
    assert len(rig.settled_now()) == 3
    assert rig.meter.counted(measures.TRACES_SAMPLED) == 3


async def test_law_5_the_first_wait_for_the_one_that_comes_last(autojump_clock: MockClock) -> None:
    """Whatever only the others have would go to them again after a crash, so it is not to be much."""
    one = Scripted(name="one", batching=Batching(max_traces=1, linger_secs=0.0, max_in_flight=2))
    record = Scripted(*[Again("connect", "refused")] * 10_000, name="record", comes_last=True)
    record.batching = Batching(max_traces=1, linger_secs=0.0, max_in_flight=1)
    rig = Rig(one, record)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        with trio.move_on_after(60):
            for number in range(100):
                await rig.kept.send([kept(number)])
        # 2 in the hands of the first, and with the last one: 2 held (one, and one more to see whether it is about the data),
        # 1 gathered, 1 being gathered, 2 in its lane, 1 in the exporter's hand
        assert len(one.sent) <= 11
        nursery.cancel_scope.cancel()
