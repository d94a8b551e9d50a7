"""`make run`: broker, daemon, traffic and view, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import trio
from attrs import evolve
from confluent_kafka import Producer
from rich.console import Console
from rich.live import Live

from demo.arrivals import OutputFile
from demo.servers import (
    INACTIVE_SECS,
    ROOT_QUIET_SECS,
    STOP_SECS,
    TOPIC,
    CannotStart,
    Child,
    Daemon,
    Ended,
    broker,
    daemon,
)
from demo.traffic import Message, Mix, Trace, in_order, traces
from demo.view import ARRIVAL_SECS, Metrics, State, line, screen, summary

ROOT = Path(__file__).resolve().parent.parent
# The embedded broker never forgets: 50 traces/s are about 0.2 MB/s, so an hour is 0.7 GB. More than that only if asked.
LONGEST_SECS = 3600.0
LOOK_SECS, LINE_SECS = 0.5, 2.0
LAST_LOOK_SECS = 0.02  # while it stops: after the last decision it still commits and leaves the group
AHEAD_SECS = 0.005  # nearer than that is now: not worth a sleep


def main() -> int:
    """0 when every trace that must be kept and had its time has arrived whole, if any had."""
    options = _arguments()
    options.into.mkdir(parents=True, exist_ok=True)
    try:
        return trio.run(_demo, options)
    except CannotStart as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m demo", description="The daemon at work on made-up traffic.")
    parser.add_argument("--rate", type=float, default=Mix().traces_per_sec, help="traces a second (%(default)g)")
    parser.add_argument("--seconds", type=float, default=LONGEST_SECS, help="end after this (%(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="a line every 2 s, as when there is no terminal")
    parser.add_argument("--into", type=Path, default=ROOT / ".cache" / "demo", help="for output, logs and settings")
    options = parser.parse_args()
    if options.rate <= 0 or options.seconds <= 0:
        parser.error("--rate and --seconds must be above 0")
    return options


async def _demo(options: argparse.Namespace) -> int:
    mix = evolve(Mix(), traces_per_sec=options.rate)
    state = State(options.into, OutputFile(options.into / "kept.jsonl"), mix.slow_ms)
    show = _show_lines if options.plain or not sys.stdout.isatty() else _show_screen
    died: list[Ended] = []
    print("starting an embedded broker and the daemon ...")
    with ExitStack() as open_until_the_end:
        broker_child, address = open_until_the_end.enter_context(broker(options.into))
        tss = open_until_the_end.enter_context(daemon(options.into, address, mix))
        arriving = open_until_the_end.enter_context(
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, address, mix, options.seed, state)
            nursery.start_soon(_observe, tss, state)
            nursery.start_soon(show, state)
            nursery.start_soon(_watch, (tss.child, broker_child), died, nursery.cancel_scope)
            nursery.start_soon(_stop_on_signal, arriving, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + options.seconds
        if not died:
            print("stopping ...")
            async with trio.open_nursery() as stopping:  # a second Ctrl-C does not wait for the daemon
                stopping.start_soon(_stop_on_signal, arriving, stopping.cancel_scope)
                await _stop(tss, state)
                stopping.cancel_scope.cancel()
    state.promises.arrived(state.file.news())  # what the daemon still delivered while it stopped
    print(summary(state))
    for ended in died:
        print(ended)
    return 1 if died or state.promises.overdue(state.now_secs) else 0


async def _send(address: str, mix: Mix, seed: int, state: State) -> None:
    """Send each record when its time has come; should we fall behind, as fast as it goes, with the right timestamps."""

    def delivered(error: object, _message: object) -> None:
        state.unsent += error is not None

    # The partitioner of the Java client and so of most others; the Collector's too.
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "partitioner": "murmur2_random", "log_level": 3})
    began = trio.current_time()
    given = _promised(traces(seed, mix, time.time_ns()), state)
    for count, (message, trace) in enumerate(in_order(given)):
        ahead = began + message.at_secs - trio.current_time()
        if ahead > AHEAD_SECS:
            await trio.sleep(ahead)
        elif count % 64 == 0:
            await trio.lowlevel.checkpoint()
        await _produce(producer, message, delivered)
        state.now_secs = message.at_secs
        state.sent_traces += message is trace.messages[0]
        state.sent_spans += message.spans


def _promised(given: Iterator[Trace], state: State) -> Iterator[Trace]:
    """The same traces; before any of it is sent, what must become of a trace is written down."""
    for trace in given:
        wait_secs = INACTIVE_SECS if trace.rootless else ROOT_QUIET_SECS
        state.promises.made(trace, wait_secs + ARRIVAL_SECS)
        yield trace


async def _produce(producer: Producer, message: Message, delivered: Callable[[object, object], None]) -> None:
    while True:
        try:
            producer.produce(TOPIC, message.value, message.key, timestamp=message.timestamp_ms, on_delivery=delivered)
        except BufferError:  # the broker does not keep up
            await trio.sleep(LOOK_SECS / 10)
        else:
            return
        finally:
            producer.poll(0)


async def _observe(tss: Daemon, state: State) -> None:
    async with _client(tss) as client:
        while True:
            state.promises.arrived(state.file.news())
            try:
                await _look(client, state)
            except httpx.TransportError as error:
                state.status = "silent" if state.status != "starting" else "starting"
                state.health = {"why": type(error).__name__} if state.status == "silent" else {}
            await trio.sleep(LOOK_SECS)


def _client(tss: Daemon) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=tss.url, timeout=2)


async def _look(client: httpx.AsyncClient, state: State) -> None:
    health = (await client.get("/health")).json()
    metrics = Metrics((await client.get("/metrics")).text)
    state.status = health["status"]
    state.health = {name: component["state"] for name, component in health["components"].items()}
    state.scraped(trio.current_time(), metrics)


async def _stop(tss: Daemon, state: State) -> None:
    """Ask the daemon to stop, and look until it is gone: the summary is of all it did, not of all but the last moment."""
    tss.child.process.terminate()
    async with _client(tss) as client:
        with trio.move_on_after(STOP_SECS):
            while tss.child.process.poll() is None:
                with suppress(httpx.TransportError):
                    await _look(client, state)
                await trio.sleep(LAST_LOOK_SECS)


async def _show_screen(state: State) -> None:
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen(state, console.width, console.height), refresh=True)
            await trio.sleep(LOOK_SECS)


async def _show_lines(state: State) -> None:
    while True:
        await trio.sleep(LINE_SECS)
        print(line(state), flush=True)


async def _watch(children: tuple[Child, ...], died: list[Ended], everything: trio.CancelScope) -> None:
    while True:
        for child in children:
            if ended := child.ended():
                died.append(ended)
                everything.cancel()
        await trio.sleep(LOOK_SECS)


async def _stop_on_signal(arriving: AsyncIterator[int], everything: trio.CancelScope) -> None:
    async for _ in arriving:
        everything.cancel()


if __name__ == "__main__":
    sys.exit(main())
