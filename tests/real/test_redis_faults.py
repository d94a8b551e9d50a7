"""Law 8: whatever befalls Redis, under load and while replicas are killed: nothing is lost, every trace has one verdict,
and the daemons stay up and ready, say that they do without, and say when they do not any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.real import redis_server
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, until
from tests.real.fleet import LOAD, Fleet, audit, lasting
from tests.real.load import Load
from tests.real.redis_server import RedisServer
from tests.real.wire import Wire

pytestmark = pytest.mark.alone

SEED = int(os.environ.get("FLEET_SEED", "1"))
SESSION_MS = 1500
TIMEOUT_SECS = 1  # redis.connectionTimeoutSecs
SLOW_SECS = 0.3  # each answer: less than that
DUMB_SECS = 3.0  # and more
HOLD_SECS = 1.5
STILL_SECS = 4.0  # several calls run out of their time
BACK_SECS = 12.0  # the pause between two probes is 5 s at most
LOOK_SECS = 0.2


@attrs.frozen
class Redis:
    """A server and the wire to it."""

    server: RedisServer
    wire: Wire

    def kill(self) -> None:
        self.server.kill()
        time.sleep(HOLD_SECS)

    def start(self) -> None:
        self.server.start()

    def freeze(self) -> None:
        self.server.freeze()
        time.sleep(STILL_SECS)

    def thaw(self) -> None:
        self.server.thaw()

    def flush(self) -> None:
        self.server.flush()
        time.sleep(HOLD_SECS / 2)
        self.server.flush()

    def slow(self) -> None:
        self.wire.late_secs = SLOW_SECS
        time.sleep(HOLD_SECS)

    def dumb(self) -> None:
        self.wire.late_secs = DUMB_SECS
        time.sleep(HOLD_SECS)

    def fast(self) -> None:
        self.wire.late_secs = 0

    def fill(self) -> None:
        self.server.limit_memory(1)
        time.sleep(HOLD_SECS)

    def empty(self) -> None:
        self.server.limit_memory(0)


@attrs.frozen
class Fault:
    """What happens, how it ends, and whether daemons are to say so meanwhile."""

    begin: Callable[[Redis], None]
    end: Callable[[Redis], None]
    told: bool = True


FAULTS: Mapping[str, Fault] = {
    "killed, and started empty": Fault(Redis.kill, Redis.start),
    "standing still": Fault(Redis.freeze, Redis.thaw),
    "flushed": Fault(Redis.flush, lambda _: None, told=False),
    "slow": Fault(Redis.slow, Redis.fast, told=False),
    "slower than the timeout": Fault(Redis.dumb, Redis.fast),
    "full": Fault(Redis.fill, Redis.empty),
}


@contextmanager
def redis_of_its_own() -> Iterator[Redis]:
    with redis_server.running() as server, Wire(server.port) as wire:
        yield Redis(server, wire)


class Watch:
    """Looks at every daemon that has been ready, until it is told that it goes: it must stay so."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._expected: dict[str, Daemon] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.amiss: list[str] = []

    @contextmanager
    def looking(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        assert not self.amiss, f"{len(self.amiss)}: {self.amiss[:3]}"

    def expect(self, name: str) -> None:
        self._fleet.replicas[name].ready()
        with self._lock:
            self._expected[name] = self._fleet.replicas[name]

    def excuse(self, name: str) -> None:
        with self._lock:
            self._expected.pop(name)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECS):
            with self._lock:
                for name, daemon in self._expected.items():
                    status, body = daemon.get("/health/ready")
                    if status != 200:
                        self.amiss.append(f"{time.time() % 1000:7.2f} {name}: {status} {body}")


def says(fleet: Fleet, state: str) -> bool:
    return all(daemon.health()["status"] == state for daemon in fleet.running)


def suffer(fleet: Fleet, watch: Watch, redis: Redis, name: str, fault: Fault, *, joins: bool) -> None:
    """While it lasts one replica is killed, or comes back; the other goes on."""
    fleet.note(f"Redis is {name}")
    before = fleet.delivered.duplicates
    fault.begin(redis)
    if fault.told:
        until(lambda: says(fleet, "degraded"), BACK_SECS, lambda: f"{name}: nobody says so\n{fleet.tails()}")
    if joins:
        fleet.join("b")
        fleet.settle(*"ab")
        watch.expect("b")
    else:
        watch.excuse("b")
        fleet.kill("b")
        fleet.settle("a")
    fault.end(redis)
    fleet.note(f"Redis is not {name} any more")
    took = until(lambda: says(fleet, "ok"), BACK_SECS, lambda: f"{name}: {[d.health() for d in fleet.running]}")
    fleet.note(f"all is well after {took:.2f} s; {fleet.delivered.duplicates - before} came again")


def begin_without(fleet: Fleet, watch: Watch, redis: Redis) -> None:
    """The daemons start, work, and take it in use when it comes."""
    redis.server.kill()
    fleet.join(*"ab")
    fleet.settle(*"ab")
    for name in "ab":
        watch.expect(name)
    assert says(fleet, "degraded")
    until(lambda: fleet.delivered.spans, 20, fleet.tails)
    redis.server.start()
    until(lambda: says(fleet, "ok"), BACK_SECS, fleet.tails)
    until(lambda: redis.server.ask("DBSIZE"), 20, "nothing is written")
    fleet.note("Redis has come")


def test_law_1_2_and_8_redis_comes_late_and_suffers(apache: Broker, tmp_path: Path) -> None:
    """One fault after the other; in every second one a replica is killed, in the others it comes back."""
    with (
        redis_of_its_own() as redis,
        Fleet.of(
            apache, tmp_path, "redis-suffers", "ab", partitions=4, app={"parkAfterSecs": 1},
            kafka={"sessionTimeoutMs": SESSION_MS},
            redis={"url": f"redis://127.0.0.1:{redis.wire.port}", "connectionTimeoutSecs": TIMEOUT_SECS},
        ) as fleet,
    ):  # fmt: skip
        with Load(apache.bootstrap, fleet.topic, SEED, LOAD, change=lasting(SEED)) as load:
            watch = Watch(fleet)
            with watch.looking():
                begin_without(fleet, watch, redis)
                # By seed, so that each fault meets both.
                order = list(FAULTS.items()) if SEED % 2 else list(FAULTS.items())[::-1]
                for number, (name, fault) in enumerate(order):
                    suffer(fleet, watch, redis, name, fault, joins=number % 2 == 1)
        fleet.drain()
        assert says(fleet, "ok")
        print(f"\n{fleet.story()}\n{audit(load, fleet)}")
