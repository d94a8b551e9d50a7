"""Joins the queues of rows of decisions with the places that they are written to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import attrs
import trio

from tss.core.decision_rows import RowQueue
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.names import Names
from tss.daemon.outside import limits, names_setting
from tss.edges.destinations import open_rows
from tss.settings import Settings
from tss.tasks import decision_rows


@attrs.frozen
class Rows:
    """The queues, and the tasks that write. Each task runs until its event is set, and then writes once more."""

    queues: list[RowQueue] = attrs.field(factory=list)
    writers: dict[str, Callable[[trio.Event], Awaitable[None]]] = attrs.field(factory=dict)  # by the task's name


async def open_all(
    settings: Settings, opened: AsyncExitStack, names: Names, last_secs: float, meter: Meter, health: Health
) -> Rows:
    """Empty without an exporter of type decisions. The last writing takes ``last_secs`` at most."""
    found, exporters = Rows(), settings.decision_exporters
    for each in exporters:
        queue = RowQueue(limits(settings).row_bytes // len(exporters), each.share)
        with names_setting(f"exporters, {each.name}"):
            opening = open_rows(each, settings.kafka, settings.app.instance_id, names)
            writing = decision_rows.Writing(queue, await opened.enter_async_context(opening), meter, health)
        found.queues.append(queue)
        found.writers[f"decisions to {each.name}"] = partial(decision_rows.run, writing, last_secs)
    return found
