"""The exporter task and the real OTLP destination against whatever a server and the way to it may do.

In each: no span is lost (taken by the backend, or among the dead letters with the reason), none is stuck, and it goes on by
itself when the trouble ends.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
import trio

from tests.edges.traces import span_ids, trace, trace_of
from tests.faulty import AHEAD, CUTS, FAULTS, GARBAGE, HANGS, ODD_SUCCESSES, Fault, FaultProxy, answering, drive, lost
from tests.real.brokers import free_ports
from tests.sinks import OtlpSink, Reply
from tss.core import measures
from tss.core.delivery import Retrying
from tss.core.health import State
from tss.core.trace import Trace
from tss.edges.http.answers import BLAMES_DATA
from tss.edges.http.otlp_traces import OtlpTraces, open_otlp
from tss.settings import OtlpExporter


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def proxy(sink):
    with FaultProxy(sink.port) as proxy:
        yield proxy


@asynccontextmanager
async def exporter(url: str, name: str = "backend", **settings) -> AsyncIterator[OtlpTraces]:
    usual: dict[str, Any] = {"request_timeout_secs": 0.5, "compression": "none", "batch_timeout_secs": 0.01} | settings
    async with open_otlp(OtlpExporter(name=name, endpoint=url, **usual)) as destination:
        destination.retrying = Retrying(0.01, max_secs=0.1, probe_secs=0.05)  # as ever, but a test cannot wait for it
        yield destination


def big(number: int) -> Trace:
    """More than the buffers of a connection hold, so that a cut within the body is one."""
    padding = b"\xfa\x7f" + _varint(1_200_000) + bytes(1_200_000)  # an unknown field of TracesData
    return trace_of([trace(number).payload + padding], trace(number).trace_id)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def ids(traces: Sequence[Trace]) -> list[bytes]:
    return sorted(each.trace_id for each in traces)


@pytest.mark.parametrize("name", [*CUTS, *HANGS, *GARBAGE])
async def test_trouble_on_the_way_is_tried_again(sink, proxy, name):
    sent = [big(1), big(2)]
    proxy.script(FAULTS[name], FAULTS[name])
    secs = 2 if name in HANGS else 20  # a hang takes this long; an answer may, on a busy machine, take more than 0.5 s
    async with exporter(proxy.url, max_in_flight=1, batch_size=1, request_timeout_secs=secs) as destination:
        driven = await drive([destination], [sent])
    assert lost(driven, "backend", sink.spans, sent) == set()
    assert ids(driven.settled) == ids(sent)
    assert driven.letters.letters == []
    errors = driven.meter.by_label(measures.EXPORT_ERRORS)
    assert sum(errors.values()) == 2 and {reason for _, reason in errors} <= {"network", "timeout", "stranger"}
    assert [each.state for each in driven.health.components.values()] == [State.UP]


@pytest.mark.parametrize("name", [*AHEAD, *ODD_SUCCESSES])
async def test_what_says_that_it_was_taken_is_sent_once(sink, proxy, name):
    """What follows the status cannot take it back: sending again would make duplicates."""
    sent = [trace(1), trace(2)]
    proxy.script(FAULTS[name])
    async with exporter(proxy.url, max_in_flight=1, batch_size=1) as destination:
        driven = await drive([destination], [sent])
    assert sink.counts == dict.fromkeys(span_ids(sent), 1)
    assert ids(driven.settled) == ids(sent)
    assert driven.letters.letters == []


# Every status that a server may send, as RFC 9110 and its neighbours name them, and some that nobody does.
AGAIN = {429, 502, 503, 504}
MISCONFIGURED = {401, 403, 404, 405, 407, 415, *range(300, 309), 399}
REFUSED = {
    400, 402, 406, *range(408, 415), *range(416, 419), *range(421, 427), 428, 431, 451, 499,
    500, 501, *range(505, 509), 510, 511, 520, 525, 529, 598, 599,
}  # fmt: skip
ODD = {600, 700, 999}


@pytest.mark.parametrize("status", sorted(AGAIN | MISCONFIGURED | REFUSED | ODD))
async def test_every_status(sink, proxy, status):
    """One answer proves nothing about the data, whatever it says: it is sent again, and taken."""
    sent = [trace(1)]
    proxy.script(answering(status, {"Location": "/elsewhere"}, b"" if status == 304 else b"why"))
    async with exporter(proxy.url, request_timeout_secs=10) as destination:
        driven = await drive([destination], [sent])
    assert lost(driven, "backend", sink.spans, sent) == set()
    assert ids(driven.settled) == ids(sent)
    assert proxy.exchanges == (3 if status in BLAMES_DATA else 2)  # a request without data among them
    assert driven.letters.letters == []
    assert len(sink.spans) == 6
    assert driven.meter.by_label(measures.EXPORT_ERRORS) == {("backend", f"http_{status}"): 1}


async def test_101_is_no_answer(sink, proxy):
    """Switching protocols was not asked for; what comes after it is not HTTP."""
    proxy.script(Fault(forward=False, answer=b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello", close=True))
    sent = [trace(1)]
    async with exporter(proxy.url) as destination:
        driven = await drive([destination], [sent])
    assert lost(driven, "backend", sink.spans, sent) == set()
    assert ids(driven.settled) == ids(sent)


@pytest.mark.parametrize("form", ["seconds", "date", "date of another clock"])
async def test_retry_after_is_waited_for(sink, proxy, form):
    """How long a date asks to wait is only known to the second; that it has come is known exactly."""
    off = timedelta(hours=5 if form == "date of another clock" else 0)
    now = datetime.now(UTC) - off
    until = "1" if form == "seconds" else format_datetime(now + timedelta(seconds=2), usegmt=True)
    date = {"Date": format_datetime(now, usegmt=True)} if off else {}
    proxy.script(answering(503, {"Retry-After": until} | date))
    async with exporter(proxy.url) as destination:
        began = time.monotonic()
        driven = await drive([destination], [[trace(1)]])
        took = time.monotonic() - began
    if form == "date":
        assert datetime.now(UTC) >= parsedate_to_datetime(until)
    else:
        assert took >= 1
    assert proxy.exchanges == 2 and not driven.letters.letters


async def test_a_partial_success_is_put_aside_and_not_sent_again(sink, proxy):
    sent = [trace(1), trace(2)]
    sink.script(Reply(rejected_spans=2, message="too old"))
    async with exporter(proxy.url) as destination:
        driven = await drive([destination], [sent])
    assert proxy.exchanges == 1
    assert ids(driven.settled) == ids(sent)
    assert {letter.reason for letter in driven.letters.letters} == {"partial_success"}
    assert set(driven.put_aside.values()) == {1} and len(driven.put_aside) == 2
    assert driven.meter.counted(measures.EXPORT_REJECTED, "backend") == 2


async def test_only_the_guilty_are_put_aside(sink, proxy):
    """A 413 or 400 for a batch is halved until those are found that are refused alone, through trouble of all sorts. For the
    last one no other data is there to be its witness, so it is a request without data."""
    sent = [trace(number) for number in range(6)] + [trace_of([b"\x0a\x05rotten"], trace(99).trace_id)]
    proxy.script(answering(413), CUTS["no answer"], answering(502), CUTS["taken and no answer"])
    async with exporter(proxy.url) as destination:
        driven = await drive([destination], [sent])
    assert driven.put_aside == {(trace(99).trace_id.hex(), "backend"): 1}
    assert lost(driven, "backend", sink.spans, sent[:-1]) == set()
    assert ids(driven.settled) == ids(sent)


async def test_one_dead_and_one_alive(sink):
    """The dead one is not heard of by the other, which gets all of its own; then it comes back, limping, and has all too."""
    port = free_ports(1)[0]
    batches = [[trace(number)] for number in range(5)]
    sent = [each for batch in batches for each in batch]
    with ExitStack() as stack:
        revived = stack.enter_context(OtlpSink())

        async def revive() -> None:
            with trio.fail_after(10):
                while sink.spans != span_ids(sent):
                    await trio.sleep(0.01)
            way = stack.enter_context(FaultProxy(revived.port, port))
            way.script(answering(503), CUTS["no answer"])

        async with (
            exporter(f"http://127.0.0.1:{port}", "dead") as dead,
            exporter(sink.url, "alive") as alive,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(revive)
            driven = await drive([dead, alive], batches)
        assert revived.spans == span_ids(sent)
    assert ids(driven.settled) == ids(sent)
    assert driven.letters.letters == []


@pytest.mark.parametrize("seed", range(4))
async def test_law_1_whatever_comes_nothing_is_lost_and_nothing_is_stuck(seed):
    """Two destinations, each behind a way of its own with one fault after the other, in random order."""
    chance = random.Random(seed)
    every = [*CUTS.values(), *GARBAGE.values(), *AHEAD.values(), *ODD_SUCCESSES.values()]
    every += [answering(status) for status in sorted(AGAIN | MISCONFIGURED | REFUSED)]
    batches = [[trace(10 * number + at) for at in range(chance.randint(1, 9))] for number in range(40)]
    sent = [each for batch in batches for each in batch]
    with OtlpSink() as one, OtlpSink() as other, FaultProxy(one.port) as way, FaultProxy(other.port) as further:
        for each in (way, further):
            each.script(*[chance.choice([Fault(), *every]) for _ in range(60)], chance.choice([*HANGS.values()]))
        async with exporter(way.url, "one", batch_size=7) as first, exporter(further.url, "other") as second:
            driven = await drive([first, second], batches, seed=seed)
        assert lost(driven, "one", one.spans, sent) == set()
        assert lost(driven, "other", other.spans, sent) == set()
    assert ids(driven.settled) == ids(sent)
    assert set(driven.put_aside.values()) <= {1}, "put aside once for each destination"
    assert all(each.state is State.UP for each in driven.health.components.values())
