"""At `logLevel: debug` each decision has a line; a flood of them has no more than so many a second."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
import trio
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import fragment, lone, span
from tss.core.decision import Decision, Reason, Verdict
from tss.core.delivery import Accepted, Again
from tss.core.otlp import Encoding, scan
from tss.core.partition import Commit, Partition
from tss.core.services import services
from tss.core.trace import Trace
from tss.state import debug_lines
from tss.state.debug_lines import LINES_A_SEC, DecisionLines, SendLines, tell_commit

KEPT = Decision(Verdict.KEEP, "errors", Reason.ROOT_QUIET, 1.0)
DROPPED = Decision(Verdict.DROP, "rest", Reason.INACTIVE, 0.1)


def record_of_services(*services: str) -> bytes:
    """A span of one trace for each."""
    made = TracesData()
    for number, service in enumerate(services):
        each = made.resource_spans.add()
        each.resource.attributes.add(key="host.name").value.string_value = "h"
        each.resource.attributes.add(key="service.name").value.string_value = service
        each.scope_spans.add().spans.append(span(1, number, start_ms=1, ms=number + 1))
    return made.SerializeToString()


def decided(decision: Decision, *services: str) -> Trace:
    (fragment,) = scan(record_of_services(*services), Encoding.AUTO).fragments
    home = Partition(3, 0, 0)
    home.ledger.read(17)
    trace = Trace(fragment.trace_id, home, 17)
    trace.absorb(lone(fragment), 0)
    trace.hold(home, 17, lone(fragment), 0)
    trace.decision = decision
    return trace


def test_the_name_of_a_service_is_read_beside_text_that_is_none() -> None:
    assert services([record_of_services("shop").replace(b"\x0a\x01h", b"\x0a\x01\xff")]) == ["shop"]


async def test_a_decision_says_everything_that_made_it(autojump_clock: MockClock) -> None:
    kept, dropped = decided(KEPT, "shop", "cart", "shop"), decided(DROPPED, "shop")
    with capture_logs() as lines:
        DecisionLines().tell([kept], [dropped])
    first, second = lines
    assert first == {
        "event": "trace decided", "log_level": "debug", "trace_id": kept.trace_id.hex(), "verdict": "keep",
        "policy": "errors", "reason": "root_quiet", "rate": 1.0, "spans": 3, "errors": 0, "duration_ms": 3.0,
        "services": ["shop", "cart"], "partition": 3, "offset": 17, "destinations": "all",
    }  # fmt: skip
    assert (second["verdict"], second["rate"], second["destinations"]) == ("drop", 0.1, ())


async def test_a_trace_that_is_too_large_to_be_looked_through_for_a_line_is_told_without_its_services(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = decided(KEPT, "shop")
    monkeypatch.setattr(debug_lines, "MAX_LOOKED_BYTES", trace.payload_bytes - 1)
    with capture_logs() as lines:
        DecisionLines().tell([trace])
    assert [(line["event"], line["services"]) for line in lines] == [("trace decided", ())]


async def test_a_flood_has_a_bounded_number_of_lines_and_the_rest_is_counted(autojump_clock: MockClock) -> None:
    told, trace = DecisionLines(), decided(KEPT, "shop")
    with capture_logs() as lines:
        for _ in range(10):
            told.tell([trace] * 1_000)
            await trio.sleep(0.05)
        assert len(lines) == LINES_A_SEC
        await trio.sleep(1)
        told.tell([trace], [])
    assert len(lines) == LINES_A_SEC + 2
    assert lines[-2] == {
        "event": "decisions: lines left out, there were too many", "count": 10_000 - LINES_A_SEC, "log_level": "debug",
    }  # fmt: skip


@pytest.fixture
def at_info() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield
    structlog.configure(**before)


class Untouchable:
    """Fails whoever looks at it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"at info nobody asks for {name}")


@pytest.mark.usefixtures("at_info")
async def test_at_info_nothing_is_even_looked_at(autojump_clock: MockClock) -> None:
    with capture_logs() as lines:
        DecisionLines().tell([Untouchable()])  # type: ignore[list-item]
        SendLines("a").tell([Untouchable()], Accepted(), 0.1)  # type: ignore[list-item]
    assert lines == []


async def test_batches_and_commits_have_lines(autojump_clock: MockClock) -> None:
    trace = decided(KEPT, "shop")
    with capture_logs() as lines:
        SendLines("a").tell([trace, trace], Accepted(), 0.25)
        SendLines("a").tell([trace], Again("timeout", "too slow"), 30.0)
        tell_commit({4: Commit(100, 90)})
    sent, failed, committed = lines
    assert (sent["event"], sent["destination"], sent["traces"], sent["spans"], sent["secs"]) == (
        "batch sent",
        "a",
        2,
        2,
        0.25,
    )
    assert (failed["event"], failed["reason"]) == ("batch not taken", "timeout")
    assert committed["offsets"] == {"4": 100}


async def test_a_trace_whose_bytes_are_broken_is_told_all_the_same(autojump_clock: MockClock) -> None:
    home = Partition(3, 0, 0)
    home.ledger.read(17)
    broken = Trace(b"t" * 16, home, 17)
    broken.absorb(lone(fragment(0)), 0)
    broken.hold(home, 17, lone(fragment(0, payload=b"\xff" * 50)), 0)
    broken.decision = KEPT
    with capture_logs() as lines:
        DecisionLines().tell([broken])
    assert lines[0]["services"] == ()
