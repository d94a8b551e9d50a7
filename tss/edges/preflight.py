"""The checks before a start, for `tss check`: the environment, and with `--connect` also Kafka, Redis and each destination."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from tss.core.delivery import Accepted
from tss.core.errors import CannotConnect, WrongSetting
from tss.core.health import Health, State
from tss.core.names import Names
from tss.edges.destinations import open_destination
from tss.edges.files import decision_rows, parquet
from tss.edges.http import datadog_stats, datadog_traces
from tss.edges.http.datadog_traces import DatadogTraces
from tss.edges.http.otlp_traces import OtlpTraces
from tss.edges.http.proxies import proxy_for
from tss.edges.tls import trusted
from tss.edges.unusable import UnusableFile
from tss.settings import (
    DatadogExporter,
    FileExporter,
    Kafka,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    Settings,
    TraceExporter,
)

if TYPE_CHECKING:
    from tss.edges.kafka import probe

EACH_SECS = 15.0  # for Kafka, for Redis, for each destination; all are asked at the same time


@attrs.frozen
class Finding:
    """Whether something answers as it should; the text says what it answered, or what is wrong and what to do."""

    asked: str
    ok: bool
    text: str


def check(settings: Settings) -> None:
    """Raises WrongSetting, as the start would. Files that the settings name are left to the start."""
    for url, trusts in _destinations(settings):
        proxy = proxy_for(url, os.environ)
        if (trusts and url.startswith("https:")) or (proxy is not None and proxy.scheme == "https"):
            trusted()
    for each in settings.effective_exporters:
        if isinstance(each, ParquetExporter):
            parquet.encoder(each)
    for rows in settings.decision_exporters:
        if rows.via == "parquet":
            decision_rows.encoder(rows, Names())


def ask(settings: Settings) -> list[Finding]:
    """Connect to everything that the settings name, within EACH_SECS. Nothing is written but one key in Redis, which expires,
    and no offset is committed."""
    with _without_log():
        return trio.run(_ask, settings)


@contextmanager
def _without_log() -> Iterator[None]:
    """Without the edges' log lines: the findings say the same."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


Ask = Callable[[], Awaitable[list[Finding]]]


async def _ask(settings: Settings) -> list[Finding]:
    asks: list[tuple[str, Ask]] = [(f"Kafka at {settings.kafka.brokers}", partial(_kafka, settings))]
    asks += [
        (f"exporter {each.name}", partial(_exporter, each, settings))
        for each in settings.effective_exporters
        if not isinstance(each, KafkaExporter)  # its topic is asked for among those of Kafka
    ]
    if settings.dead_letter.type == "file":
        asks.append(("deadLetter.path", partial(_place, "deadLetter.path", Path(settings.dead_letter.path))))
    if settings.redis.url:
        asks.append(("Redis", partial(_redis, settings)))
    answers: list[list[Finding]] = [[Finding(name, False, f"no answer within {EACH_SECS:g} s")] for name, _ in asks]

    async def fill(number: int, asking: Ask) -> None:
        with trio.move_on_after(EACH_SECS):
            answers[number] = await asking()

    async with trio.open_nursery() as nursery:
        for number, (_, asking) in enumerate(asks):
            nursery.start_soon(fill, number, asking)
    return [finding for found in answers for finding in found]


async def _kafka(settings: Settings) -> list[Finding]:
    """The brokers, each topic of the settings, and how the input is keyed."""
    from tss.edges.kafka import probe  # noqa: PLC0415  # brings librdkafka, which only --connect needs

    kafka, name = settings.kafka, f"Kafka at {settings.kafka.brokers}"
    topics = dict(_topics(settings))
    try:
        counts = await trio.to_thread.run_sync(probe.partitions, kafka, [*topics.values()], abandon_on_cancel=True)
    except CannotConnect as error:
        return [Finding(name, False, str(error))]
    found = [Finding(name, True, "the brokers answer")]
    for key, topic in topics.items():
        count = counts[topic]
        if isinstance(count, int):
            found.append(Finding(f"{key} {topic}", True, f"{count} partition{'' if count == 1 else 's'}"))
        elif key == "kafka.rekey.topic" and count == probe.ABSENT:
            found.append(Finding(f"{key} {topic}", True, "it does not exist yet; the daemon creates it"))
        else:
            found.append(Finding(f"{key} {topic}", False, f"{count}; create the topic, or check {key}"))
    count = counts[kafka.input_topic]
    if isinstance(count, int):
        found.append(await _keys(kafka, count, probe.keys))
    return found


def _topics(settings: Settings) -> Iterator[tuple[str, str]]:
    """Topics by the key that names them."""
    yield "kafka.inputTopic", settings.kafka.input_topic
    if settings.kafka.rekey.enabled:
        yield "kafka.rekey.topic", settings.kafka.rekey.topic
    for number, each in enumerate(settings.exporters):
        if isinstance(each, KafkaExporter):
            yield f"exporters[{number}].topic", each.topic
    if settings.dead_letter.type == "topic":
        yield "deadLetter.topic", settings.dead_letter.topic


async def _keys(kafka: Kafka, count: int, read: Callable[[Kafka, str, int], probe.Keys]) -> Finding:
    asked = f"keys of {kafka.input_topic}"
    try:
        keys = await trio.to_thread.run_sync(read, kafka, kafka.input_topic, count, abandon_on_cancel=True)
    except CannotConnect as error:
        return Finding(asked, False, str(error))
    read_in_all = keys.records + keys.unreadable
    if not read_in_all:
        return Finding(asked, True, "no records could be read, so the keys are not known")
    if not keys.records:
        text = f"none of the newest {read_in_all} records is OTLP: each would be dead-lettered; check kafka.inputTopic and kafka.encoding"
        return Finding(asked, False, text)
    if (keys.unkeyed or keys.split) and count > 1 and not kafka.rekey.enabled:
        wrong = f"{keys.unkeyed} of the newest {keys.records} records are not keyed by trace id"
        if not keys.unkeyed:
            wrong = f"{keys.split} traces are on several partitions, though all records are keyed by trace id"
        remedy = "set partition_traces_by_id in the Collector's kafka exporter, or enable kafka.rekey"
        return Finding(asked, False, f"{wrong}, so traces are decided in parts; {remedy}")
    if keys.unkeyed or keys.split:
        why = "kafka.rekey splits them" if kafka.rekey.enabled else "the topic has one partition"
        return Finding(asked, True, f"not all records are keyed by trace id, which does no harm, because {why}")
    return Finding(asked, True, f"the newest {keys.records} records are keyed by trace id")


async def _exporter(exporter: TraceExporter, settings: Settings) -> list[Finding]:
    name = f"exporter {exporter.name}"
    match exporter:
        case FileExporter():
            return await _place(name, Path(exporter.path))
        case ParquetExporter():
            return await _place(name, Path(exporter.path) / "file")
        case KafkaExporter():
            return []
    began = time.monotonic()
    try:
        async with open_destination(exporter, settings.datadog) as destination:
            assert isinstance(destination, OtlpTraces | DatadogTraces)  # noqa: S101  # for mypy: files have returned above
            outcome = await destination.ask()
    except (UnusableFile, WrongSetting) as error:
        return [Finding(name, False, str(error))]
    if isinstance(outcome, Accepted):
        return [Finding(name, True, f"takes an empty request, within {time.monotonic() - began:.2g} s")]
    return [Finding(name, False, f"does not take an empty request: {outcome.detail}")]


async def _place(name: str, file: Path) -> list[Finding]:
    return [_writable(name, file)]


def _writable(name: str, file: Path) -> Finding:
    """Whether a file can be written. It is not created; the daemon creates it, and the folders that are missing."""
    place = next(each for each in (file, *file.absolute().parents) if each.exists())
    if os.access(place, os.W_OK) and (place == file or place.is_dir()):
        return Finding(name, True, f"{file} can be written")
    return Finding(name, False, f"{file} cannot be written, because of {place}; check its owner and its mode")


async def _redis(settings: Settings) -> list[Finding]:
    from tss.edges.metrics import PrometheusMeter  # noqa: PLC0415  # as above
    from tss.edges.redis.link import COMPONENT, open_link  # noqa: PLC0415

    health = Health()
    try:
        async with open_link(settings.redis, settings.kafka.consumer_group, PrometheusMeter(), health):
            found = health.components[COMPONENT]
    except UnusableFile as error:
        return [Finding("Redis", False, str(error))]
    ok = found.state is State.UP
    return [Finding("Redis", ok, "takes a small write" if ok else found.detail)]


def _destinations(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Base URLs of what proxies are for, and whether the environment says whom to trust there."""
    for each in settings.effective_exporters:
        if isinstance(each, OtlpExporter):
            yield each.endpoint, each.ssl_verify and not each.ssl_ca_location
        elif isinstance(each, DatadogExporter) and each.via != "agent":
            yield datadog_traces.endpoint_of(each, computes_stats=False).base_url, True
            if settings.datadog.stats:
                yield datadog_stats.endpoint_of(each).base_url, True
    if settings.span_metrics.enabled and settings.span_metrics.otlp_endpoint:
        yield settings.span_metrics.otlp_endpoint, True
