"""Shows the retention of the topic and the number of records before the oldest needed one: a warning before a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from tss.core import measures
from tss.core.measures import Meter
from tss.core.retention import Retention
from tss.state.assignments import Assignments
from tss.state.inputs import Inputs

LOOK_SECS = 60.0  # the first offset moves with each deleted segment, mostly a few times an hour
SETTINGS_LOOKS = 5  # a topic's settings change by an operator's hand


class RetainedTopic(Protocol):
    """A topic, asked how long it keeps its records."""

    topic: str

    async def retention(self) -> Retention:
        """Its retention settings. Raises nothing."""

    async def first(self, ids: Sequence[int]) -> Mapping[int, int]:
        """The first offset that is left of each partition; without those that are unknown. Raises nothing."""


async def run(topic: RetainedTopic | None, reader: Assignments | Inputs, meter: Meter, stop: trio.Event) -> None:
    """Every minute, until told to stop. Without a topic to ask (None), return at once."""
    if topic is None:
        return
    shown: set[int] = set()
    looks = 0
    while not stop.is_set():
        if looks % SETTINGS_LOOKS == 0:
            _show(await topic.retention(), topic.topic, meter)
        looks += 1
        shown = await _show_headroom(topic, reader, meter, shown)
        with trio.move_on_after(LOOK_SECS if shown else 1.0):
            await stop.wait()


def _show(retention: Retention, topic: str, meter: Meter) -> None:
    meter.set(measures.RETENTION, retention.secs, topic)
    meter.set(measures.RETENTION_BYTES, retention.bytes, topic)


async def _show_headroom(topic: RetainedTopic, reader: Assignments | Inputs, meter: Meter, shown: set[int]) -> set[int]:
    """Returns the partitions that are shown now."""
    asked = reader.needed()
    first = await topic.first(sorted(asked)) if asked else {}
    needed = reader.needed()  # again: it may have changed while the answer was awaited
    known = {id: max(0, needed[id] - offset) for id, offset in first.items() if id in needed}
    for id, records in known.items():
        meter.set(measures.HEADROOM, records, topic.topic, str(id))
    for id in shown - known.keys():
        meter.forget(measures.HEADROOM, topic.topic, str(id))
    return {*known}
