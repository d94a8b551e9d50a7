"""Laws 1, 2 and 9 while replicas come and go at random: they join, leave in order, are killed, and stand still for longer
than their session and go on with everything they had in hand."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from tests.real.brokers import ApacheKafka
from tests.real.fleet import EXIT_SECS, LOAD, PROTOCOLS, SHUTDOWN_SECS, Fleet, audit, lasting
from tests.real.load import Load
from tests.real.redis_server import RedisServer

pytestmark = pytest.mark.alone

EVENTS = int(os.environ.get("CHURN_EVENTS", "20"))
SEED = int(os.environ.get("CHURN_SEED", "1"))
PROTOCOL = os.environ.get("CHURN_PROTOCOL", "")
ALONE = "FLEET_ALONE" in os.environ  # without Redis, to compare
NAMES = "abcd"
SESSION_MS = 1500
PAUSE_SECS = (0.1, 1.3)  # between two events: shorter than a start, longer than a rebalance
FROZEN_SECS = (SESSION_MS / 1000 + 0.5, SESSION_MS / 1000 + 3.0)


@attrs.define
class Churn:
    """What happens next, by chance, to those to whom it can."""

    fleet: Fleet
    chance: Random
    frozen: dict[str, float] = attrs.field(factory=dict)  # until when
    leaving: dict[str, float] = attrs.field(factory=dict)  # since when
    left_secs: list[float] = attrs.field(factory=list)
    done: list[str] = attrs.field(factory=list)

    def step(self) -> None:
        """One event."""
        self._look()
        choices: list[tuple[int, Callable[[str], None], str]] = []
        for name, daemon in self.fleet.replicas.items():
            if not daemon.running:
                choices.append((5, self._join, name))
            elif name not in self.leaving and name not in self.frozen:
                choices += [(2, self._leave, name), (2, self._kill, name), (1, self._freeze, name)]
            else:
                choices.append((1, self._kill, name))  # within its stop, or while it stands still
        ((_, act, name),) = self.chance.choices(choices, [weight for weight, _, _ in choices])
        act(name)

    def wait(self, secs: float) -> None:
        """Some time, in which those that stand still go on when it is time, and those that leave end as they should."""
        until_then = time.monotonic() + secs
        while time.monotonic() < until_then:
            self._look()
            time.sleep(0.02)

    def end(self) -> None:
        """No more faults."""
        while self.frozen or self.leaving:
            self.wait(0.1)

    def _look(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self.frozen.items() if at <= now]:
            del self.frozen[name]
            self.fleet.thaw(name)
        for name, since in [*self.leaving.items()]:
            daemon = self.fleet.replicas[name]
            if not daemon.running:
                del self.leaving[name]
                assert daemon.end(0) == 0, daemon.tail()
                self.left_secs.append(now - since)
            assert now - since < SHUTDOWN_SECS + EXIT_SECS, f"law 9: {daemon!r}\n{daemon.tail()}"

    def _join(self, name: str) -> None:
        self.fleet.join(name)
        self.done.append("join")

    def _leave(self, name: str) -> None:
        if not self.fleet.replicas[name].said("starting"):  # before it hears signals, SIGTERM is no orderly stop
            self._kill(name)
            return
        self.fleet.terminate(name)
        self.done.append("leave")
        self.leaving[name] = time.monotonic()

    def _kill(self, name: str) -> None:
        self.frozen.pop(name, None)
        self.leaving.pop(name, None)
        self.fleet.kill(name)
        self.done.append("kill")

    def _freeze(self, name: str) -> None:
        self.fleet.freeze(name)
        self.done.append("freeze")
        self.frozen[name] = time.monotonic() + self.chance.uniform(*FROZEN_SECS)


def test_law_1_and_2_joins_leaves_and_kills(apache: ApacheKafka, tmp_path: Path, redis: RedisServer) -> None:
    began = time.monotonic()
    chance = Random(SEED)
    protocol = PROTOCOL or chance.choice([*PROTOCOLS])
    memory: dict[str, Any] = {} if ALONE else {"redis": {"url": redis.url}, "app": {"parkAfterSecs": 2}}
    kafka = {"sessionTimeoutMs": SESSION_MS, **PROTOCOLS[protocol]}
    with (
        Fleet.of(apache, tmp_path, f"churn-{SEED}", NAMES, kafka=kafka, **memory) as fleet,
        Load(apache.bootstrap, fleet.topic, SEED, LOAD, change=lasting(SEED)) as load,
    ):
        apache.hasten(fleet.config["kafka"]["consumerGroup"], SESSION_MS)
        fleet.join("a", "b")
        churn = Churn(fleet, chance)
        for _ in range(EVENTS):
            churn.wait(chance.uniform(*PAUSE_SECS))
            churn.step()
        churn.end()
        fleet.join(*(name for name in "ab" if not fleet.replicas[name].running))
        load.finish()
        churned = time.monotonic() - began
        drained = fleet.drain()
        for daemon in fleet.running:
            fleet.leave(daemon.directory.name)
        accounts = audit(load, fleet)
    print(
        f"\nseed {SEED}, {protocol}: {EVENTS} events in {churned:.0f} s, drained {drained:.1f} s after; {accounts}; "
        f"{Counter(churn.done)}, {len(churn.left_secs)} left within {max(churn.left_secs, default=0):.2f} s"
    )
