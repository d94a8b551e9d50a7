"""By what Datadog tells statistics apart, and what they are when they are taken.

Source: the Datadog agent's concentrator (`pkg/trace/stats`: `OTLPTracesToConcentratorInputs`, `NewAggregationFromSpan`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import attrs
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tss.core.formats.datadog import naming, obfuscation
from tss.core.formats.datadog.naming import KIND_NAMES, Subject
from tss.core.formats.datadog.origin import origin_of
from tss.core.formats.datadog.peers import PEER_TAGS, peer_tags, peers_of
from tss.core.formats.datadog.values import MAX_META_VALUE, MAX_RESOURCE, attributes, cut, tag
from tss.core.formats.datadog.weight import kept_share
from tss.core.head import SAMPLE_RATE
from tss.core.otlp.attributes import value_of
from tss.core.otlp.reading import read
from tss.core.otlp.wire import WireError

MEASURED = "_dd.measured"
NOTES = (SAMPLE_RATE, MEASURED)
MAX_NOTE = 1024  # bytes of such an attribute, whose value is a number: each span of a resource looks at the resource's

_CODES = (
    "http.status_code", "http.response.status_code", "rpc.grpc.status_code", "grpc.code", "rpc.grpc.status.code",
    "grpc.status.code", "rpc.response.status_code", "rpc.system.name", "rpc.system",
)  # fmt: skip
# What `origin_of` looks at for environment, version and host.
_ORIGINS = (
    "env", "version", "datadog.host.name", "aws.ecs.launchtype", "host.name", "host.id", "cloud.provider",
    "cloud.account.id", "k8s.node.name", "k8s.cluster.name",
)  # fmt: skip
_SYNTHETICS = "_dd.origin"
# All attributes, of a span or its resource, that a name is made of: `Namer` sees no others, so that spans that agree in
# these, in kind and in name have one name.
KEYS = tuple(dict.fromkeys([key for keys in naming.KEYS.values() for key in keys] + [
    *_CODES, *_ORIGINS, _SYNTHETICS, *PEER_TAGS,
]))  # fmt: skip
PREFIXES = ("gen_ai.",)  # of which only that there is one counts
SERVICE_KEYS = naming.KEYS["service"]
_KEYS = frozenset(KEYS)

NO_ENV = "none"  # as the agent says it


class Payload(NamedTuple):
    """What a payload says once for all groups in it."""

    env: str
    hostname: str
    version: str


class Name(NamedTuple):
    """A series of spans: `payload`, and the agent's aggregation key less whether they are roots."""

    payload: Payload
    service: str
    name: str
    resource: str
    type: str
    kind: str
    http_status: int
    grpc_status: str
    synthetics: bool
    peer_tags: tuple[str, ...]


OVERFLOW = Name(
    Payload(NO_ENV, "", ""), "tss.overflow", "tss.overflow", "more series than there is room for", "custom", "", 0, "",
    False, (),
)  # fmt: skip


@attrs.frozen
class GroupedStats:
    """Spans of one series, roots or not, that ended within the same ten seconds, as far as they were taken now."""

    start_ns: int
    name: Name
    root: bool
    hits: int
    errors: int
    top_level_hits: int
    duration_ns: int
    ok: bytes  # DDSketch messages
    error: bytes


@attrs.frozen
class StatsBody:
    """A body, and how many groups are in it."""

    groups: int
    body: bytes = attrs.field(repr=False)


def name_of(span: bytes, around: Around) -> Name | None:
    """The series of a serialized span; None if it cannot be made into a name."""
    try:
        parsed = read(Span, span)
        return name(parsed.kind, parsed.name, of(parsed.attributes), around)
    except Exception:  # noqa: BLE001  # whatever is wrong with these bytes, it is theirs alone; they are counted
        return None


def service_of(span: bytes, around: Around) -> str | None:
    """The service of a serialized span, likewise."""
    found = name_of(span, around)
    return found and found.service


Named = tuple[tuple[str, str | int | None], ...]
"""Attributes that a name may be made of: texts and integers; of others only that they are there."""


def of(pairs: Iterable[KeyValue]) -> Named:
    """Those of all attributes."""
    found = attributes(pair for pair in pairs if pair.key in _KEYS or pair.key.startswith(PREFIXES))
    return tuple([(key, value if type(value) in (str, int) else None) for key, value in found.items()])  # type: ignore[misc]


@attrs.frozen(eq=False)
class Around:
    """What a name may take from a resource, so that naming one more of its spans costs the same however long it is."""

    texts: Mapping[str, str]
    wholes: Mapping[str, int]
    peers: Mapping[str, str]  # as `peers.peers_of`
    size: int  # characters


# Law 5: the caches have a limit in entries, and one may be as large as a record, so what is larger is not kept. Of a
# resource whoever walks over a trace keeps what was made of it until its end.
MAX_REMEMBERED = 8192
MAX_NAMED = 2048  # characters that one of two thousand names is made of; each has them twice, and usually a few hundred


def around_of(resource: bytes) -> Around:
    """Of a serialized Resource; one that cannot be parsed has no attributes."""
    return (_around if len(resource) <= MAX_REMEMBERED else _around.__wrapped__)(resource)


@lru_cache(512)
def _around(resource: bytes) -> Around:
    try:
        parsed = read(Resource, resource)
    except WireError:  # the scanner does not look into resources
        parsed = Resource()
    found = dict(of(pair for pair in parsed.attributes if pair.key in _KEYS))
    found = {key: cut(value, MAX_META_VALUE) if type(value) is str else value for key, value in found.items()}
    texts = naming.texts(found)
    return Around(texts, naming.wholes(found), peers_of(found), sum(map(len, texts.values())))


# The attributes of a span that may be its resource, and have values in them: each span may have another one.
TEXTS = tuple([key for what in ("statement", "route", "template", "resource_name") for key in naming.KEYS[what]])
# What stands for a span's name, and for those attributes, in a name that is made for many spans: no text from outside is
# like it, for UTF-8 has no such character.
_NAME_MARK = "\ud800"
_TEXT_MARKS = {key: chr(0xD801 + place) for place, key in enumerate(TEXTS)}
_SOURCES = {_NAME_MARK: 1} | {mark: 2 + place for place, mark in enumerate(_TEXT_MARKS.values())}


class Template(NamedTuple):
    """What is the same for all spans that differ in no more than their names and `TEXTS`."""

    name: Name  # without a resource
    source: int  # where the resource ends in: 1 is the span's name, from 2 on `TEXTS`; 0 if it is made of none of them
    making: int  # what becomes of that (`obfuscation.making`)
    resource: str  # if it is made of none of them, all of it; else what stands before that text, of any length


def template_of(span: bytes, around: Around, present: int) -> Template | None:
    """The template of a serialized span; None if it cannot be made into a name. `present` has a bit for each of `TEXTS`
    that the span has itself, as a string that is not empty."""
    try:
        parsed = read(Span, span)
        return _template(parsed.kind, parsed.name, of(parsed.attributes), around, present)[0]
    except Exception:  # noqa: BLE001  # as in `name_of`
        return None


def name(kind: int, called: str, own: Named, around: Around) -> Name:
    """The series of a span."""
    template, system = _template(kind, called, own, around, -1)
    found = template.name
    if not template.source:
        return found._replace(resource=template.resource)
    text = called if template.source == 1 else dict(own)[TEXTS[template.source - 2]]
    whole = cut(f"{template.resource}{text}", MAX_RESOURCE)
    return found._replace(resource=obfuscation.resource(whole, found.type, system))


def _template(kind: int, called: str, own: Named, around: Around, present: int) -> tuple[Template, str]:
    """And `db.system`."""
    marks = {key: mark for place, (key, mark) in enumerate(_TEXT_MARKS.items()) if present >> place & 1}
    own = tuple([(key, marks[key] if key in marks and type(value) is str and value else value) for key, value in own])
    size = around.size + sum([len(value) for _, value in own if isinstance(value, str)])
    named = _name if size <= MAX_NAMED else _name.__wrapped__
    found, system = named(kind, _NAME_MARK if called else "", own, around)
    source = _SOURCES.get(found.resource[-1:], 0)  # a mark is always the last character
    if source:
        text = found.resource[:-1]
    else:
        text = obfuscation.resource(cut(found.resource, MAX_RESOURCE), found.type, system)
    return Template(found._replace(resource=""), source, obfuscation.making(found.type, system), text), system


@lru_cache(2048)
def _name(kind: int, called: str, own: Named, around: Around) -> tuple[Name, str]:
    """The name, with marks for what may be another text each time; and what system that is for."""
    mine = dict(own)
    texts = {**around.texts, **naming.texts(mine)}
    subject = Subject(kind, called, mine, texts, {**around.wholes, **naming.wholes(mine)})
    found = Name(
        _payload(subject),
        naming.service(subject),
        naming.operation(subject),
        naming.uncut_resource(subject),
        naming.span_type(subject),
        KIND_NAMES.get(kind, "unspecified"),
        _http_status(subject),
        _grpc_status(subject),
        texts.get(_SYNTHETICS, "").startswith("synthetics"),
        tuple(peer_tags(kind, mine, around.peers)),
    )
    return found, subject.find("db")


def _payload(subject: Subject) -> Payload:
    meta = {key: subject.texts[key] for key in _ORIGINS if key in subject.texts}
    meta["env"] = tag(meta.get("env") or subject.find("env"))
    meta["version"] = meta.get("version") or tag(subject.find("version"))
    origin = origin_of({"meta": meta})
    return Payload(origin.env or NO_ENV, origin.hostname, origin.app_version)


def _http_status(subject: Subject) -> int:
    found = naming.http_status(subject) or 0
    return found if 0 <= found < 2**32 else 0


_GRPC_CODES = {
    word: str(number)
    for number, word in enumerate((
        "OK", "CANCELLED", "UNKNOWN", "INVALIDARGUMENT", "DEADLINEEXCEEDED", "NOTFOUND", "ALREADYEXISTS",
        "PERMISSIONDENIED", "RESOURCEEXHAUSTED", "FAILEDPRECONDITION", "ABORTED", "OUTOFRANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATALOSS", "UNAUTHENTICATED",
    ))
} | {"CANCELED": "1"}  # fmt: skip


def _grpc_status(subject: Subject) -> str:
    """Its number, by whichever of its names; empty for what is none."""
    word = naming.grpc_status(subject)
    if word.isascii() and word.isdigit() and len(word) <= 10:
        return str(int(word))
    return _GRPC_CODES.get(word.upper().removeprefix("STATUSCODE.").replace("_", "").replace(" ", ""), "")


# Weights ------------------------------------------------------------------------------------------------------------

ONE = 1 << 20  # a weight, and a count, is an integer so many times as large, so that sums do not depend on their order
MOST = ONE << 20
MAX_INT64 = 2**63 - 1


def weight(trace_state: bytes, rate: bytes) -> int:
    """How many spans one stands for: 1 / the rate of a head sampler, as `_sample_rate` (a serialized attribute, or empty)
    or its trace state says. 0 where neither says anything."""
    found = _weight if len(trace_state) + len(rate) <= MAX_REMEMBERED // 8 else _weight.__wrapped__
    return found(trace_state, rate)


@lru_cache(4096)
def _weight(trace_state: bytes, rate: bytes) -> int:
    share = kept_share(value_of(rate), trace_state.decode(errors="replace"), 1.0)
    return round(ONE / max(share, ONE / MOST)) if 0 < share < 1 else 0


def is_measured(attribute: bytes) -> bool:
    """Whether the value of a serialized attribute is the integer 1."""
    value = value_of(attribute)
    return type(value) is int and value == 1


def made_whole(start_ns: int, name: Name, root: bool, counts: Sequence[int]) -> list[int]:
    """Sums of weights as whole numbers: up or down by chance, as the agent does it, so that sums over many are true.

    The chance is a hash of what they are counted for: the same log gives the same numbers (law 3). It is one for all of
    a group, so that there are never more errors than hits.
    """
    if not any(count % ONE for count in counts):
        return [count // ONE for count in counts]
    digest = hashlib.blake2b(repr((start_ns, name, root)).encode(errors="surrogatepass"), digest_size=4).digest()
    chance = int.from_bytes(digest) % ONE
    return [(count + chance) // ONE for count in counts]


# Buckets ------------------------------------------------------------------------------------------------------------

BUCKET_NS = 10 * 1_000_000_000
OLDEST_NS = (
    3600 * 1_000_000_000 - 60 * 1_000_000_000
)  # Datadog takes nothing older than an hour; the way there takes time
MAX_SERIES = 20_000
MAX_BYTES = 64 * 1024 * 1024


def start_between(start_ns: int, now_ns: int) -> int:
    """A bucket's start; what Datadog would not take any more, or not yet, goes into the next one that it takes."""
    newest = now_ns - now_ns % BUCKET_NS
    oldest = newest - OLDEST_NS
    return min(max(start_ns, oldest), newest)
