"""The process around the selection: its web server, its signals, its pulse, and all that is opened before reading begins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import NoReturn

import attrs
import structlog
import trio

from tss import __version__
from tss.core import measures
from tss.core.errors import StoppedAtOnce
from tss.core.force import Rulebook
from tss.core.health import Health, State
from tss.core.measures import Meter
from tss.core.names import Names
from tss.core.otlp import SCANNER
from tss.core.tally import Tally
from tss.daemon import snapshot
from tss.daemon.counting import open_counting
from tss.daemon.fleet import open_fleet
from tss.daemon.outside import limits, names_setting, open_outside
from tss.daemon.rekeying import rekey
from tss.daemon.reloading import SettingsFile, open_reloading
from tss.daemon.rows import open_all
from tss.daemon.selection import select
from tss.daemon.stopping import StopTimes
from tss.daemon.wiring import rulesets_of
from tss.edges import heap, logs, signals
from tss.edges.dead_letters.writer import open_dead_letters
from tss.edges.kafka_client.config import client_config
from tss.edges.kafka_output.rekey_topic import keyed_settings
from tss.edges.metrics import PrometheusMeter
from tss.edges.web import server
from tss.edges.web.admin import AdminApi
from tss.edges.web.force_api import ForceApi
from tss.edges.web.messages import ADMIN_PATH, EXPORTERS_PATH, POLICIES_PATH
from tss.edges.web.pages import Facts
from tss.edges.web.policies_api import PoliciesApi
from tss.edges.web.reading import ReadApi, ReadGuard
from tss.edges.web.release_api import ReleaseApi
from tss.edges.web.traces_api import TRACES, TracesApi
from tss.settings import ForceSampling, Settings, effective
from tss.state.crew import Crew
from tss.state.documents import Heard
from tss.state.traces import TraceLookup
from tss.tasks import idle_policies, pulse, trimmer
from tss.tasks.reloading import SIGNAL, Reloading

log = structlog.get_logger()


async def supervise(
    settings: Settings,
    heard: AsyncIterator[signal.Signals],
    path: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """The daemon: the selection, joined to the real outside, until a signal ends it. ``path`` and ``environ`` are where the
    settings come from: they are read again when they change.

    The web server starts first and stops last, so that probes are answered during the whole stop. ``heard`` are the signals.
    The deadline of the whole stop is kept by edges/signals.py, since this event loop may be what hangs.
    """
    meter = PrometheusMeter()
    health = Health(time.time, partial(_show_component, meter))
    _show(meter, health)
    times = StopTimes.of(settings.app.shutdown_timeout_secs, settings.app.graceful_shutdown)
    rulebook, rulesets = Rulebook(), rulesets_of(settings, meter)
    crew, stop, counted = Crew(), trio.Event(), trio.Event()
    force_api = ForceApi(settings.force_sampling, rulebook, has_redis=bool(settings.redis.url))
    release_api, policies_api = ReleaseApi(force_api.guard), PoliciesApi(force_api.guard)
    file, reload = SettingsFile(path, environ, settings), Heard()
    traces = TraceLookup(settings.app.instance_id)
    reads = ReadApi(ReadGuard(settings.observability), {TRACES: TracesApi(traces.look).answer})
    admin = AdminApi(
        {ADMIN_PATH: force_api.answer, EXPORTERS_PATH: release_api.answer, POLICIES_PATH: policies_api.answer}
    )
    facts = Facts(
        health,
        SCANNER,
        meter.exposition,
        meter,
        numbers=health.read_numbers,
        settings=effective(settings),
        admin=admin.answer,
        reads=reads.answer,
        admin_at=_admin_at(settings.force_sampling),
    )
    # The link to Redis has tasks in the house, so it is closed before the house ends; all else is closed after it.
    async with AsyncExitStack() as opened, trio.open_nursery() as house, AsyncExitStack() as linked:
        await house.start(crew.watch, server.run, settings.observability, facts)
        crew.start(house, "signals", _signals, stop, heard, health, reload)
        crew.start(house, "pulse", pulse.run, meter)
        crew.start(house, "trimmer", trimmer.run, heap.give_back)
        connection = client_config(settings.kafka, settings.app.instance_id)
        with names_setting("deadLetter"):
            opening = open_dead_letters(settings.dead_letter, connection, meter, health)
            dead_letters = await opened.enter_async_context(opening)
        with names_setting("redis"):
            fleet = await open_fleet(settings, linked, rulebook, meter, health, crew)
        if fleet.forcing is not None:
            await house.start(crew.watch, fleet.forcing.run, settings.force_sampling.poll_secs, name="force rules")
            force_api.change = fleet.forcing.change
        with names_setting("app.stateDir"):
            reloading = open_reloading(settings, fleet, rulesets, file, meter, health)
        await reloading.begin(file.changed_at)
        policies_api.policies = reloading
        crew.start(house, "policies", reloading.run)
        crew.start(house, "reload", _reload, reloading, reload)
        counting = await open_counting(settings, opened, times.last_counts_secs, meter)
        tally = Tally(Names(limits(settings).name_bytes), settings.observability.max_services)
        crew.start(house, "idle policies", idle_policies.run, reloading.unmatched, rulesets, tally)
        rows = await open_all(settings, opened, tally.names, times.last_counts_secs, meter, health)
        outside = await open_outside(
            settings,
            opened,
            fleet=fleet,
            dead_letters=dead_letters,
            observers=counting.observers,
            tally=tally,
            row_queues=rows.queues,
            rulebook=rulebook,
            rulesets=rulesets,
            meter=meter,
            health=health,
            crew=crew,
            traces=traces,
        )
        release_api.exporters = outside.lanes
        async with trio.open_nursery() as beside:
            for name, sender in (*counting.senders.items(), *rows.writers.items()):
                crew.start(beside, name, sender, counted)
            keyed = settings
            if settings.kafka.rekey.enabled:
                await beside.start(crew.watch, rekey, settings, outside, stop, name="rekey")
                keyed = attrs.evolve(settings, kafka=keyed_settings(settings.kafka))  # the selection reads its topic
            await select(keyed, outside, stop)
            counted.set()  # no more spans come: the senders send the last counts, and end
        house.cancel_scope.cancel()


def _show(meter: PrometheusMeter, health: Health) -> None:
    meter.set(measures.BUILD_INFO, 1, __version__, SCANNER)
    meter.watch(measures.READY, lambda: health.ready)
    logs.count_dropped(lambda lines: meter.count(measures.LOG_LINES_DROPPED, lines))
    health.starting("kafka")


def _show_component(meter: Meter, name: str, state: State) -> None:
    meter.set(measures.COMPONENT_DEGRADED, state is State.DEGRADED, name)


def _admin_at(force: ForceSampling) -> tuple[str, int] | None:
    return (force.admin_addr, force.admin_port) if force.admin_token and force.admin_port else None


async def _signals(stop: trio.Event, heard: AsyncIterator[signal.Signals], health: Health, reload: Heard) -> None:
    """The first signal asks for an orderly stop; a second one stops at once; SIGUSR1 asks for the state; SIGHUP asks to read
    the settings file again."""
    async for number in heard:
        if number == signals.TELLS:
            logs.always("state", **snapshot.entry(health))
        elif number == signals.RELOADS:
            reload.set()
        elif not stop.is_set():
            log.info("stopping", signal=number.name)
            stop.set()
        elif number in signals.STOPS:
            raise StoppedAtOnce(number.name)


async def _reload(reloading: Reloading, reload: Heard) -> NoReturn:
    while True:
        await reload.wait()
        await reloading.reload(SIGNAL)
