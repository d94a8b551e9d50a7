"""Where a kept trace goes, and in which form, in the whole daemon: what the settings say of it reaches the tasks."""

from typing import Any

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.spans import message, span, trace_id
from tests.fakes.kafka import EPOCH_MS, Habits
from tests.simulation.laws import breaches
from tests.simulation.plan import plan
from tests.simulation.quiet import quiet
from tests.simulation.traffic import Write
from tests.simulation.world import World, run
from tss.core import measures
from tss.core.buffer import Waits
from tss.settings import App, FileExporter, Sampling, SpanCompression

ERRORS = FileExporter(name="sea0", path="0", match={"policies": ("errors",)})
REST = FileExporter(name="sea1", path="1", match={"policies": ("default",)})


def _calls(trace: int) -> list[Span]:
    made = [span(trace, number, 0, start_ms=number) for number in range(1, 6)]
    for each in made:
        each.name, each.kind = "GET", Span.SPAN_KIND_CLIENT
    return made


def _lived(**changes: Any) -> World:
    """Two traces, the first with an error, and of the second a record twice."""
    records = (
        [span(0, 0, error=True), *_calls(0)],
        [span(1, 0)],
        _calls(1),
        _calls(1),
    )
    writes = [
        Write(1.0 + place, 0, message(spans), EPOCH_MS + 1000 * (1 + place)) for place, spans in enumerate(records)
    ]
    drawn = plan(1)
    settings = attrs.evolve(
        drawn.settings,
        app=App(instance_id="simulated", max_buffer_bytes=1 << 26, root_quiet_secs=5.0, inactivity_timeout_secs=8.0),
        sampling=Sampling(sample_latency=False, default_sample_rate=1.0),
        **changes,
    )
    tastes = attrs.evolve(drawn.tastes, partitions=1)
    habits = Habits(close_secs=1.0)
    with quiet():
        return run(
            attrs.evolve(
                drawn, settings=settings, tastes=tastes, habits=habits, writes=writes, faults=[], replicas=1,
                destinations=2, refused_share=0, partly_share=0, waits=Waits(0, 0, 0), max_trace_bytes=0,
            )
        )  # fmt: skip


def _counted(world: World, measure: measures.Measure) -> float:
    return sum(life.meter.counted(measure) for life in world.lives)


def test_each_destination_gets_what_its_match_takes() -> None:
    world = _lived(exporters=(ERRORS, REST))
    assert [{key.trace_id for key in delivered} for delivered in world.delivered] == [{trace_id(0)}, {trace_id(1)}]
    assert _counted(world, measures.TRACES_SAMPLED) == 2
    assert _counted(world, measures.TRACES_UNROUTED) == 0


def test_what_no_match_takes_is_counted_and_settled() -> None:
    world = _lived(exporters=(ERRORS, attrs.evolve(REST, match={"policies": ("errors",)})))
    assert [{key.trace_id for key in delivered} for delivered in world.delivered] == [{trace_id(0)}] * 2
    assert _counted(world, measures.TRACES_UNROUTED) == 1
    assert not [each for each in world.broken if "not all is committed" in each]


def test_spans_go_out_once_and_alike_ones_as_one_where_that_is_asked_for() -> None:
    plain = _lived()
    assert breaches(plain) == []
    assert [len(delivered) for delivered in plain.delivered] == [12, 12]
    assert _counted(plain, measures.DUPLICATES_REMOVED) == 5
    small = _lived(span_compression=SpanCompression(enabled=True))
    assert [len(delivered) for delivered in small.delivered] == [4, 4]
    assert _counted(small, measures.COMPRESSED_SPANS) == 10
    assert _counted(small, measures.SPANS_EXPORTED) == 8
