"""OTLP to Datadog, held to the Datadog agent's own code, built from its Go modules (`tests/real/oracle`).

Every field of every span of a made-up world is the agent's, but for what INTENDED names, with its reason.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.core.test_datadog import CLIENT, data, otlp, pairs
from tests.real import oracle
from tests.real.conventions import traces
from tests.real.traffic import sdk_payloads
from tss.core.formats.datadog import PEER_TAGS, lead, peer_tags, to_spans
from tss.core.formats.datadog.naming import KEYS
from tss.core.formats.datadog.peers import peers_of
from tss.core.formats.datadog.trace import RENAMED
from tss.core.formats.datadog.values import attributes

_MISSING = object()
Value = Any


class Difference(NamedTuple):
    """A field, or a tag as `meta.key` or `metrics.key`; `_MISSING` where one side has none."""

    field: str
    ours: Value
    agents: Value
    span: Mapping[str, Value]  # ours

    def __str__(self) -> str:
        told = [repr(value)[:150] if value is not _MISSING else "none" for value in (self.ours, self.agents)]
        return f"{self.field}: ours {told[0]}, the agent's {told[1]}, in {self.span['meta']['span.kind']} {self.span['name']}"


class Intended(NamedTuple):
    fields: tuple[str, ...]
    holds: Callable[[Difference], bool]
    why: str


def _json(text: Value) -> Value:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, TypeError):
        return None


def _numbers_are_words(found: Difference) -> bool:
    return any(f'"{word}"' in str(found.ours) for word in ("NaN", "Infinity", "-Infinity"))


def _whole_events(found: Difference) -> bool:
    """The agent cuts in the midst of them, and writes a word for a value that is no JSON, null for no bytes."""
    ours, agents = _json(found.ours), _json(found.agents)
    return _but_redacted(ours, agents) or bool(agents is None and ours and len(found.agents.encode()) > 24_990)


def _but_redacted(ours: Value, agents: Value) -> bool:
    if isinstance(ours, dict) and isinstance(agents, dict):
        return ours.keys() == agents.keys() and all(_but_redacted(ours[key], agents[key]) for key in ours)
    if isinstance(ours, list) and isinstance(agents, list):
        return len(ours) == len(agents) and all(map(_but_redacted, ours, agents))
    return agents in (ours, "redacted") or (ours == "" and agents is None)


def _links_with_flags(found: Difference) -> bool:
    ours = [{key: value for key, value in link.items() if key != "flags"} for link in _json(found.ours)]
    return _json(found.agents) in (ours, None)


INTENDED: Sequence[Intended] = (
    Intended(
        ("meta.error.msg", "meta.error.message", "meta.error.type", "meta.error.stack"),
        lambda found: found.span["error"] == 1 and found.ours is not _MISSING,
        "the last exception event and HTTP's status tell what the agent leaves in the events; most of Datadog's own"
        " libraries write error.message",
    ),
    Intended(
        tuple(
            f"{place}.{key}"
            for place in ("meta", "metrics")
            for key in (
                *("sampling.priority", "_sampling_priority_v1", "_sample_rate", "_dd1.sr.rcusr"),
                *("_dd.p.dm", "_dd.p.tid", "_dd.top_level", "_top_level"),
            )
        ),
        lambda found: found.ours is _MISSING,
        "said of the whole trace by this daemon, once: by `lead`, and `_sample_rate` on local roots with our share in it",
    ),
    Intended(
        ("metrics._dd1.sr.eausr", "metrics._dd.analyzed"),
        lambda found: found.field.endswith("eausr") or found.agents == 1.0,
        "the agent acts on the one by setting the other: it does so with ours too",
    ),
    Intended(
        ("type",),
        lambda found: found.ours == "llm" and any(key.startswith("gen_ai.") for key in _tags(found.span)),
        "what Datadog calls such spans",
    ),
    Intended(
        ("meta.events",), _whole_events, "JSON that can be read: cut between two events, no value put aside for another"
    ),
    Intended(("meta._dd.span_links",), _links_with_flags, "JSON that can be read, and the flags"),
    Intended(("meta.map",), _numbers_are_words, "JSON knows no NaN: the agent leaves out the whole value"),
)


def _tags(span: Mapping[str, Value]) -> Iterator[str]:
    yield from span["meta"]
    yield from span["metrics"]


# What the agent obfuscates is compared as it was before: this daemon leaves that to it.
_OBFUSCATED_TYPES = {"sql", "cassandra", "redis", "valkey", "memcached", "mongodb", "elasticsearch", "opensearch"}
_OBFUSCATED_TAGS = {"sql.query", "sql.tables", "db.statement", "db.query.text"}


def agents(payload: bytes) -> dict[int, dict[str, Value]]:
    """By span id: as its transform makes them of OTLP, and then all that it does before it sends them on."""
    made = oracle.spans(payload)
    before = {span["span_id"]: json.loads(json.dumps(span)) for span in made}
    [sent] = oracle.processed(msgpack.packb([made]))
    after = {span["span_id"]: span for chunk in sent["chunks"] for span in chunk["spans"]}
    assert after.keys() == before.keys()
    for number, span in after.items():
        if span["type"] in _OBFUSCATED_TYPES:
            _unobfuscate(span, before[number])
    return after


def _unobfuscate(span: dict[str, Value], before: Mapping[str, Value]) -> None:
    span["resource"] = before["resource"] or span["name"]
    for key in _OBFUSCATED_TAGS:
        span["meta"].pop(key, None)
        if key in before["meta"]:
            span["meta"][key] = before["meta"][key]


def differences(ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> Iterator[Difference]:
    for field in (
        "service",
        "name",
        "resource",
        "type",
        "trace_id",
        "span_id",
        "parent_id",
        "start",
        "duration",
        "error",
    ):
        if ours[field] != theirs[field]:
            yield Difference(field, ours[field], theirs[field], ours)
    for place in ("meta", "metrics"):
        for key in ours[place].keys() | theirs[place].keys():
            one, other = ours[place].get(key, _MISSING), theirs[place].get(key, _MISSING)
            if one is other or one == other or (one != one and other != other):  # noqa: PLR0124  # NaN
                continue
            yield Difference(f"{place}.{key}", one, other, ours)


def _is_intended(found: Difference) -> bool:
    return _intended(found) is not None


def _intended(found: Difference) -> str | None:
    return next((each.why for each in INTENDED if found.field in each.fields and each.holds(found)), None)


@pytest.mark.parametrize("seed", range(4))
def test_a_made_up_world(seed):
    unlike: list[str] = []
    for payload in traces(seed, 60):
        theirs = agents(payload)
        for span in to_spans(payload):
            unlike += [str(each) for each in differences(span, theirs[span["span_id"]]) if not _is_intended(each)]
    assert not unlike, f"{len(unlike)} differences, {Counter(each.split(':')[0] for each in unlike)}\n" + "\n".join(
        unlike[:40]
    )


def test_each_intended_difference_is_one():
    """Or the table would excuse what is long mended."""
    met: set[str | None] = set()
    for payload in traces(1, 60):
        theirs = agents(payload)
        for span in to_spans(payload):
            met |= {_intended(found) for found in differences(span, theirs[span["span_id"]])}
    assert met == {each.why for each in INTENDED}


def test_traces_of_the_sdk():
    for _, payload in sdk_payloads():
        theirs = agents(payload)
        for span in to_spans(payload):
            assert not [str(each) for each in differences(span, theirs[span["span_id"]]) if not _is_intended(each)]


@pytest.mark.parametrize("seed", [11, 12])
def test_the_agent_changes_nothing_in_what_it_is_sent(seed):
    """Normalised, shortened and marked as it would do it; and it finds the priority and what stands for the chunk."""
    for payload in traces(seed, 40):
        spans = to_spans(payload, rate=0.25)
        lead(spans)
        [sent] = oracle.processed(msgpack.packb([spans]))
        [chunk] = sent["chunks"]
        assert chunk["priority"] == 2
        after = {span["span_id"]: span for span in chunk["spans"]}
        for span in spans:
            if span["type"] not in _OBFUSCATED_TYPES:
                found = differences(span, after[span["span_id"]])
                assert not [str(each) for each in found if each.field not in _THE_AGENTS_OWN]


# What it adds: its own note of `_sample_rate`, and what follows from `analytics.event`.
_THE_AGENTS_OWN = {"metrics._dd1.sr.rcusr", "metrics._dd1.sr.eausr", "metrics._dd.analyzed"}


# The agent's tables


@pytest.fixture(scope="module")
def tables():
    return oracle.tables(*_CONCEPTS.values(), "http.status_code", "rpc.grpc.status_code", "_dd.measured")


# By the word in KEYS: what the agent calls it.
_CONCEPTS = {
    "method": "http.method",
    "env": "deployment.environment",
    "db": "db.system",
    "statement": "db.statement",
    "destination": "messaging.destination",
    "messaging": "messaging.system",
    "messaging_operation": "messaging.operation",
    "rpc": "rpc.system",
    "rpc_service": "rpc.service",
    "rpc_method": "rpc.method",
    "faas_provider": "faas.invoked.provider",
    "faas_name": "faas.invoked.name",
    "faas_trigger": "faas.trigger",
    "graphql_type": "graphql.operation.type",
    "graphql_name": "graphql.operation.name",
    "protocol": "network.protocol.name",
    "route": "http.route",
    "template": "url.template",
    "version": "service.version",
    "service": "service.name",
    "operation_name": "operation.name",
    "resource_name": "resource.name",
    "span_type": "span.type",
    "db_namespace": "db.namespace",
}


def test_each_thing_is_read_from_the_same_attributes(tables):
    assert _CONCEPTS.keys() == KEYS.keys()
    for word, concept in _CONCEPTS.items():
        assert tables["concepts"][concept] == [[key, "string"] for key in KEYS[word]], word


def test_names_that_are_renamed(tables):
    assert tables["renamed"] == RENAMED


def test_types_of_databases(tables):
    for system, type_ in tables["databases"].items():
        [span] = to_spans(data(otlp(kind=CLIENT, attributes={"db.system": system})))
        assert span["type"] == type_, system


def test_peer_tags_are_the_same(tables):
    assert list(PEER_TAGS) == tables["peer_tags"]


# Peer tags, as they come out of the agent's concentrator

_HOSTS = (
    *(
        "shop",
        "shop.example:443",
        "10.0.0.1",
        "10.0.0.1:443",
        "10.0.0.1:",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3",
        "1.2.3.4.5",
    ),
    *("1.2.3.4.", "1.2.3.4..", "1.2.3.4.x", "1.2.3.4x", "1.2.3.4567", "1_2_3_4", "1-2-3-4", "1.2-3.4", "0.0.0.0"),
    *("ip-10-0-0-1", "ip-10-0-0-1.ec2.internal:80", "ip-10-0-0-1-", "http://10.0.0.1:80/x", "http:///10.0.0.1"),
    *("xhttps://10.0.0.1", "ftp://shop", "http://", "dnspoll:///1.1.1.1", "file://1.2.3.4"),
    *("127.0.0.1", "127.0.0.1:80", "::1", "[::1]:80", "169.254.169.254", "fd00:ec2::254", "169.254.170.2:1"),
    *("2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "[2001:db8::1]:443]", "fe80::1%eth0", "[fe80::1%eth0]:1"),
    *("::ffff:1.2.3.4", "::", ":", "1:2", "1:2:3", "[10.0.0.1]:80", "10.0.0.1:80:90", "[]:1", "[1.2.3.4]", "a::b"),
    *("10.0.0.1:9092,10.0.0.2:9092,kafka:9092", "10.0.0.1,10.0.0.2,", ",", "a,a,b", "%eth0", "x%1.2.3.4", "g::1"),
    *("1.2.3.4:http", "1.2.3.4,1.2.3.5:8080", "1٣.2.3.4", "käse.1.2.3.4", "12:34:56:78:9a:bc:de:f0", "1.2.3.4/24"),
)


def _peers(payload: bytes) -> dict[str, list[str]]:
    """By the resource of the span: each has its own."""
    found: dict[str, list[str]] = {}
    for client in oracle.concentrate(payload)["Stats"]:
        for bucket in client["Stats"]:
            found |= {group["Resource"]: group["PeerTags"] or [] for group in bucket["Stats"]}
    return found


def test_addresses_are_blocked_as_the_agent_does():
    spans = [
        otlp(number, kind=CLIENT, name=host, attributes={"out.host": host}) for number, host in enumerate(_HOSTS, 1)
    ]
    found = _peers(data(*spans))
    assert found == {host: peer_tags(CLIENT, {"out.host": host}, {}) for host in _HOSTS}


@pytest.mark.parametrize("seed", [21, 22])
def test_peer_tags_of_a_made_up_world(seed):
    compared = 0
    for payload in traces(seed, 40):
        message = TracesData.FromString(payload)
        expected: dict[str, list[str]] = {}
        for part in message.resource_spans:
            resource = attributes(part.resource.attributes)
            for span in part.scope_spans[0].spans:
                span.attributes.insert(0, *pairs({"_dd.measured": 1}))
                span.attributes.insert(0, *pairs({"resource.name": span.span_id.hex()}))
                expected[span.span_id.hex()] = peer_tags(span.kind, attributes(span.attributes), peers_of(resource))
        found = _peers(message.SerializeToString())
        assert found == expected
        compared += sum(map(bool, found.values()))
    assert compared > 100


@pytest.mark.parametrize(
    "trace_state",
    [
        *("ot=th:8", "ot=th:c;rv:12345678901234", "a=b,ot=th:0", "ot=th:fffff", "ot=th:123456789abcdef", "ot=th:X"),
        *("ot=p:2;r:5", "ot=p:0", "ot=p:62", "ot=p:63", "ot=p:2;th:8", "dd=s:1", ""),
    ],
)
@pytest.mark.parametrize("attributes", [{}, {"_sample_rate": 0.25}, {"_sample_rate": 1}, {"_sample_rate": "0.1"}])
def test_what_a_head_sampler_said_weighs_the_same(trace_state, attributes):
    payload = data(otlp(attributes=attributes, trace_state=trace_state))
    [ours], [theirs] = to_spans(payload), oracle.spans(payload)
    assert ours["metrics"].get("_sample_rate", 1.0) == theirs["metrics"].get("_sample_rate", 1.0)


# The judge itself


def test_it_takes_no_other_bytes():
    for read in (oracle.agent_payload, oracle.v04, oracle.v07, oracle.stats, oracle.client_stats, oracle.spans):
        with pytest.raises(oracle.NoOracle):
            read(b"\xff\xff none of these")


def test_it_reads_what_it_is_sent():
    spans = to_spans(data(otlp(attributes={"a": "b", "n": math.inf}), resource={"service.name": "shop"}))
    assert oracle.v04(msgpack.packb([spans])) == [spans]
    chunk = {"priority": 2, "origin": "", "spans": spans, "tags": {"k": "v"}, "dropped_trace": False}
    payload = oracle.v07(msgpack.packb({"env": "prod", "hostname": "h", "chunks": [chunk]}))
    assert (payload["env"], payload["hostname"], payload["chunks"]) == ("prod", "h", [chunk])
