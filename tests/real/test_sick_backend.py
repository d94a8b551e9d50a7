"""The exporter task and the real OTLP destination against a backend that refuses everything, or something.

No sick backend has traces among the dead letters, none is flooded, and whoever looks is told; the one trace that a healthy
backend refuses is found.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.edges.traces import span_ids, trace, trace_of
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tests.faulty import Fault, FaultProxy
from tests.sinks import HttpSink, OtlpSink, Reply
from tss.core import measures
from tss.core.delivery import Retrying
from tss.core.health import Health, State
from tss.core.trace import Trace
from tss.edges.http.otlp_traces import open_otlp
from tss.settings import OtlpExporter
from tss.state.lane import Lane
from tss.tasks import exporter

# What Go's net/http answers on a TLS port to a client that begins with plain HTTP.
NO_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@attrs.define
class Running:
    """An exporter that runs."""

    lane: Lane
    kept: trio.MemorySendChannel[list[Trace]]
    settled: list[Trace]
    letters: FakeDeadLetters
    meter: FakeMeter
    health: Health

    async def until_settled(self, traces: int) -> None:
        with trio.fail_after(30):
            while len(self.settled) < traces:
                await trio.sleep(0.01)

    def is_down(self) -> bool:
        known = self.health.components.get("exporter backend")
        return known is not None and known.state is State.DOWN

    def errors(self) -> dict[tuple[str, ...], float]:
        return self.meter.by_label(measures.EXPORT_ERRORS)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Running]:
    """A tenth of the usual pauses, for a test cannot wait."""
    settings = OtlpExporter(name="backend", endpoint=url, batch_timeout_secs=0.05, request_timeout_secs=5.0)
    letters, meter, health = FakeDeadLetters(), FakeMeter(), Health()
    kept_in, kept_out = trio.open_memory_channel[list[Trace]](0)
    settled_in, settled_out = trio.open_memory_channel[list[Trace]](10_000)
    async with open_otlp(settings) as destination, trio.open_nursery() as nursery:
        destination.retrying = Retrying(0.1, max_secs=3.0, probe_secs=3.0)
        lane = Lane("traces", destination, letters, health, meter, random.Random(1))
        found = Running(lane, kept_in, [], letters, meter, health)

        async def settle() -> None:
            async for traces in settled_out:
                found.settled += traces

        nursery.start_soon(exporter.run, kept_out, settled_in, [lane], meter)
        nursery.start_soon(settle)
        yield found
        nursery.cancel_scope.cancel()


async def send(to: Running, sent: Sequence[Trace], at_once: int = 100) -> None:
    for place in range(0, len(sent), at_once):
        await to.kept.send([*sent[place : place + at_once]])


@pytest.mark.parametrize("status", [400, 500])
async def test_a_thousand_traces_and_an_error_to_everything_for_a_while(
    proxied: tuple[OtlpSink, FaultProxy], status: int
) -> None:
    sent = [trace(number) for number in range(1000)]
    sink, proxy = proxied
    sink.usual = Reply(status, body=b"out of memory")
    async with running(proxy.url) as exporting:
        await send(exporting, sent)
        await trio.sleep(10)
        requests = proxy.exchanges
        assert requests < 40
        assert exporting.is_down()
        assert exporting.lane.standing.particulars()["waiting_traces"] == 1000
        assert exporting.meter.watched[measures.EXPORTER_DOWN.name, ("backend",)]() > 5
        assert exporting.errors() == {("backend", f"http_{status}"): pytest.approx(requests, abs=4)}
        sink.usual = Reply()
        await exporting.until_settled(1000)
        assert not exporting.is_down()
    assert exporting.letters.letters == []
    assert sink.counts == dict.fromkeys(span_ids(sent), 1)


async def test_http_to_a_tls_port_holds_everything(proxied: tuple[OtlpSink, FaultProxy]) -> None:
    """It answers 400 to all, and to a request without data too."""
    sink, proxy = proxied
    proxy.usual = Fault(forward=False, answer=NO_TLS, close=True)
    sent = [trace(number) for number in range(300)]
    async with running(proxy.url) as exporting:
        await send(exporting, sent)
        await trio.sleep(5)
        assert proxy.exchanges < 40
        assert exporting.is_down()
        assert "HTTP request to an HTTPS server" in exporting.health.components["exporter backend"].detail
        assert exporting.letters.letters == []
        proxy.usual = Fault()
        await exporting.until_settled(300)
    assert exporting.letters.letters == []
    assert sink.counts == dict.fromkeys(span_ids(sent), 1)


@pytest.fixture
def proxied():
    with OtlpSink() as sink, FaultProxy(sink.port) as proxy:
        yield sink, proxy


async def trickle(to: Running, begin: int) -> None:
    """Other traffic, without end."""
    while True:
        await to.kept.send([trace(begin)])
        begin += 1
        await trio.sleep(0.02)


def backend_without(poison: bytes, status: int) -> HttpSink:
    sink = OtlpSink()
    if status == 500:
        sink.crashes_on.add(poison)
    return sink


@pytest.mark.parametrize("status", [400, 500])
async def test_one_poison_trace_among_good_ones(status: int) -> None:
    poison = trace(777) if status == 500 else trace_of([b"\x0a\x05rotten"], trace(777).trace_id)
    sent = [trace(number) if number != 777 else poison for number in range(1000)]
    with backend_without(poison.trace_id, status) as sink:
        async with running(sink.url) as exporting, trio.open_nursery() as nursery:
            nursery.start_soon(trickle, exporting, 10_000)
            await send(exporting, sent, 1000)
            with trio.fail_after(60):
                while not exporting.letters.letters:
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        [letter] = exporting.letters.letters
        assert (letter.trace_id, letter.reason) == (poison.trace_id.hex(), f"http_{status}")
        assert not exporting.is_down()
        good = [each for each in sent if each is not poison]
        assert span_ids(good) <= sink.spans
        assert 5 <= exporting.errors()["backend", f"http_{status}"] <= 40


async def test_what_an_operator_releases_is_among_the_dead_letters_and_the_rest_goes_on() -> None:
    """One trace that nothing else is sent beside, and a server that crashes on it: nobody can know whose fault it is."""
    with backend_without(trace(1).trace_id, 500) as sink:
        async with running(sink.url) as exporting:
            await send(exporting, [trace(1)])
            with trio.fail_after(20):
                while not exporting.is_down():
                    await trio.sleep(0.01)
            assert exporting.lane.release() == 1
            await exporting.until_settled(1)
            assert [letter.reason for letter in exporting.letters.letters] == ["http_500"]
            await send(exporting, [trace(2)])
            await exporting.until_settled(2)
            assert not exporting.is_down()
