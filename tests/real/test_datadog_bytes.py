"""What we send to Datadog, read by the Datadog agent's own Go modules, and held against what the agent itself would send."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.core.spans import message, span
from tests.edges.http.test_datadog import tagged
from tests.edges.traces import trace_of
from tests.real import oracle
from tests.real.traffic import sdk_payloads
from tss.core.formats.apm_stats import Concentrator
from tss.core.formats.datadog import lead, to_spans
from tss.core.formats.datadog.parts import NoTraceId, SpanForm
from tss.core.trace import Trace
from tss.edges.http.datadog_trace_forms import V04, V07, Intake

Json = dict[str, Any]

K8S = {
    "k8s__node__name": "n1", "k8s__cluster__name": "eu", "k8s__pod__name": "p1", "k8s__pod__uid": "u1",
    "k8s__namespace__name": "shop", "k8s__deployment__name": "cart", "k8s__replicaset__name": "cart-1",
    "k8s__statefulset__name": "s", "k8s__daemonset__name": "d", "k8s__job__name": "j", "k8s__cronjob__name": "cj",
    "k8s__container__name": "kc", "container__id": "c1", "container__name": "cn", "container__runtime": "containerd",
    "container__image__name": "cart", "container__image__tag": "v1", "cloud__region": "eu-1",
    "cloud__availability_zone": "eu-1a",
}  # fmt: skip
ECS = {
    "cloud__provider": "aws", "aws__ecs__launchtype": "fargate", "aws__ecs__task__family": "f",
    "aws__ecs__task__arn": "arn:t", "aws__ecs__cluster__arn": "arn:c", "aws__ecs__task__revision": "7",
    "aws__ecs__container__arn": "arn:k", "host__name": "ip-10-0-0-1",
}  # fmt: skip
RESOURCES: Sequence[dict[str, Any]] = (
    {"host__name": "web-1"},
    {"host__name": "localhost"},
    {"host__name": "web-1", "host__id": "x"},
    {"host__name": "web-1", "datadog__host__name": "mine"},
    {"host__name": "ip-10-0-0-1", "host__id": "i-1", "cloud__provider": "aws"},
    {"host__name": "ip-10-0-0-1", "cloud__provider": "aws"},
    {"host__name": "vm.c.shop.internal", "cloud__account__id": "shop", "cloud__provider": "gcp"},
    {"host__name": "vm.c.int", "cloud__account__id": "shop", "cloud__provider": "gcp"},
    {"host__name": "vm", "cloud__provider": "gcp"},
    {"host__name": "az", "cloud__provider": "azure"},
    {"host__name": "az", "host__id": "vm-1", "cloud__provider": "azure"},
    {"k8s__node__name": "n1", "host__name": "web-1"},
    {"k8s__node__name": "n1", "host__id": "i-1", "cloud__provider": "aws"},
    {"telemetry__sdk__language": "java", "telemetry__sdk__version": "1.40.0"},
    {"deployment__environment": "Prod", "service__version": "1.2", "datadog__container_id": "dc", "container__id": "c"},
    {"k8s__pod__uid": "u1"},
    K8S,
    ECS,
)


def sent() -> list[Trace]:
    return [trace_of([payload], trace_id, rate=0.5) for trace_id, payload in sdk_payloads()]


def body(form: SpanForm, traces: Sequence[Trace]) -> bytes:
    parts = [part for each in traces for part in form.parts(each)]
    [request] = form.requests(parts)
    return form.body(request)


def meant(traces: Sequence[Trace]) -> list[Json]:
    """The spans, as they were meant."""
    found = []
    for each in traces:
        assert each.decision is not None
        spans = to_spans(each.payload, each.decision.rate)
        lead(spans)
        found += spans
    return found


def spans_in(payloads: Sequence[Json]) -> list[Json]:
    return [span for payload in payloads for chunk in payload["chunks"] for span in chunk["spans"]]


def without_empty(span: Json) -> Json:
    return {key: value for key, value in span.items() if value}


def assert_same(found: Sequence[Json], expected: Sequence[Json]) -> None:
    assert [*map(without_empty, found)] == [*map(without_empty, expected)]


def test_the_intakes_payload_is_read_as_it_was_meant():
    traces = sent()
    payload = oracle.agent_payload(body(Intake(), traces))
    assert_same(spans_in(payload["tracer_payloads"]), meant(traces))
    for each in payload["tracer_payloads"]:
        assert [(chunk["priority"], chunk["dropped_trace"]) for chunk in each["chunks"]] == [(2, False)] * 3
    assert payload["agent_version"] and not payload["hostname"] and not payload["env"]


def test_v04_is_read_as_it_was_meant():
    traces = sent()
    assert_same([span for chunk in oracle.v04(body(V04(), traces)) for span in chunk], meant(traces))


def test_v07_is_read_as_it_was_meant():
    traces = sent()
    payload = oracle.v07(body(V07(), traces))
    assert_same(spans_in([payload]), meant(traces))
    assert {chunk["priority"] for chunk in payload["chunks"]} == {2}
    assert (payload["env"], payload["app_version"], payload["hostname"]) == ("prod", "1.2.3", "h1")


ORIGIN = ("env", "app_version", "hostname", "container_id", "language_name", "tracer_version", "tags")

NOTHING = (None, "", "none", "otlp-")  # an agent's default environment, and a tracer without a version


def origin(payload: Json) -> Json:
    """In one form: what is empty is left out, and container tags are a set (the agent's are in any order)."""
    found = {name: payload[name] for name in ORIGIN if payload[name] not in NOTHING}
    if "tags" in found:
        found["tags"] = {key: set(value.split(",")) for key, value in found["tags"].items()}
    return found


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: ", ".join(resource)[:60])
@pytest.mark.parametrize("form", [V07(), Intake()], ids=["v0.7", "intake"])
def test_a_payload_says_of_its_spans_what_the_agents_would(resource, form):
    one = tagged(1, **resource)
    [theirs] = oracle.received(one.payload)
    read = oracle.v07 if isinstance(form, V07) else lambda body: oracle.agent_payload(body)["tracer_payloads"][0]
    assert origin(read(body(form, [one]))) == origin(theirs)


def test_the_intake_gets_what_it_would_get_by_an_agent():
    """The same traces to an agent in v0.4, and what it sends on; but for what only one of the two does."""
    traces = sent()
    ours = oracle.agent_payload(body(Intake(), traces))["tracer_payloads"]
    theirs = oracle.processed(body(V04(), traces))
    for each in spans_in(theirs):
        each["metrics"].pop("_dd1.sr.rcusr", None)  # the rate of the client's sampler, copied from `_sample_rate`
    assert_same(spans_in(ours), spans_in(theirs))
    assert [
        [(chunk["priority"], chunk["origin"], chunk["tags"]) for chunk in payload["chunks"]] for payload in ours
    ] == [[(chunk["priority"], chunk["origin"], chunk["tags"]) for chunk in payload["chunks"]] for payload in theirs]


NOW_MS = 1_790_000_000_000
ENDED_NS = 1_700_000_001_000_000_000
ODD_TIMES = {
    "in microseconds": (1_700_000_000_000_000, 1_700_000_001_000_000),
    "in seconds": (1_700_000_000, 1_700_000_003),
    "none at all": (0, 0),
    "end before start": (ENDED_NS, ENDED_NS - 7),
    "end beyond int64": (ENDED_NS, 2**64 - 1),
    "both beyond int64": (2**64 - 1, 2**64 - 1),
}


def timed(start: int, end: int, trace_id: bytes = bytes(range(1, 17))) -> Trace:
    one = span(1, 0)
    one.trace_id, one.start_time_unix_nano, one.end_time_unix_nano = trace_id, start, end
    made = trace_of([message([one])], trace_id)
    made.last_ms = NOW_MS
    return made


def times(payloads: Sequence[Json]) -> list[tuple[int, int]]:
    return [(each["start"], each["duration"]) for each in spans_in(payloads)]


@pytest.mark.parametrize("name", ODD_TIMES)
def test_odd_times_are_set_right_as_an_agent_does_it(name):
    """With the topic's time in the place of the agent's clock; and an agent finds nothing more to set right in ours."""
    one = timed(*ODD_TIMES[name])
    [ours] = times(oracle.agent_payload(body(Intake(), [one]))["tracer_payloads"])
    before_ns = time.time_ns()
    [theirs] = times(oracle.received(one.payload))
    if ours[0] == NOW_MS * 1_000_000 - ours[1]:  # set by a clock
        assert before_ns <= sum(theirs) <= time.time_ns()
        theirs = ours[0], theirs[1]
    assert ours == theirs
    assert times(oracle.processed(body(V04(), [one]))) == [ours]


def test_a_start_of_0_is_where_we_know_better():
    """The agent believes that the span took the 54 years from 1970 to its end, and has it begin in the seventies."""
    one = timed(0, ENDED_NS)
    [theirs] = times(oracle.received(one.payload))
    assert theirs[1] == ENDED_NS and theirs[0] < 10**18
    assert times(oracle.agent_payload(body(Intake(), [one]))["tracer_payloads"]) == [(ENDED_NS, 0)]
    assert times(oracle.processed(body(V04(), [one]))) == [(ENDED_NS, 0)]


def test_an_agent_throws_away_what_has_no_id_in_datadog():
    """Which is why it is refused here: the answer to it would be a success. Statistics count it all the same, as here."""
    one = timed(ENDED_NS - 5, ENDED_NS, trace_id=bytes(range(1, 9)) + bytes(8))
    assert oracle.received(one.payload) == []
    for form in (Intake(), V04(), V07()):
        with pytest.raises(NoTraceId):
            form.parts(one)
    groups = [
        each
        for payload in oracle.concentrate(one.payload)["Stats"]
        for bucket in payload["Stats"]
        for each in bucket["Stats"]
    ]
    ours = Concentrator(ENDED_NS)
    ours.add(one.trace_id, one.chunks(), True)
    assert [group["Hits"] for group in groups] == [group.hits for group in ours.take(ENDED_NS)] == [1]
