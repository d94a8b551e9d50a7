"""How APM statistics are grouped, and what a group is when it is taken.

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
MAX_NOTE = (
    1024  # bytes; the value of a noted attribute is a number, and a resource's is read again for each of its spans
)

_CODES = (
    "http.status_code", "http.response.status_code", "rpc.grpc.status_code", "grpc.code", "rpc.grpc.status.code",
    "grpc.status.code", "rpc.response.status_code", "rpc.system.name", "rpc.system",
)  # fmt: skip
# The attributes from which `origin_of` takes environment, version and host.
_ORIGINS = (
    "env", "version", "datadog.host.name", "aws.ecs.launchtype", "host.name", "host.id", "cloud.provider",
    "cloud.account.id", "k8s.node.name", "k8s.cluster.name",
)  # fmt: skip
_SYNTHETICS = "_dd.origin"
# All attributes, of a span or its resource, that affect a `Name`. Spans that agree in these, in kind and in name belong to
# the same series.
KEYS = tuple(dict.fromkeys([key for keys in naming.KEYS.values() for key in keys] + [
    *_CODES, *_ORIGINS, _SYNTHETICS, *PEER_TAGS,
]))  # fmt: skip
PREFIXES = ("gen_ai.",)  # only the presence of such an attribute affects a name, not its value
SERVICE_KEYS = naming.KEYS["service"]
_KEYS = frozenset(KEYS)

NO_ENV = "none"  # the agent's word for an unknown environment


class Payload(NamedTuple):
    """The fields that a payload has once for all groups in it."""

    env: str
    hostname: str
    version: str


class Name(NamedTuple):
    """A series of spans: `payload`, and the agent's aggregation key without the is-root flag."""

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
    """The counts of one series' spans, roots or others, that ended within the same ten seconds.

    They cover the time since the counts were last taken. ``ok`` and ``error`` are serialized DDSketch messages of durations
    in ns.
    """

    start_ns: int
    name: Name
    root: bool
    hits: int
    errors: int
    top_level_hits: int
    duration_ns: int
    ok: bytes
    error: bytes


@attrs.frozen
class StatsBody:
    """The body of a request, and the number of groups in it."""

    groups: int
    body: bytes = attrs.field(repr=False)


def name_of(span: bytes, around: Around) -> Name | None:
    """The series of a serialized span; None if the span cannot be read."""
    try:
        parsed = read(Span, span)
        return name(parsed.kind, parsed.name, of(parsed.attributes), around)
    except Exception:  # noqa: BLE001  # invalid bytes must not stop the others; the caller counts them
        return None


def service_of(span: bytes, around: Around) -> str | None:
    """The service of a serialized span; None if the span cannot be read."""
    found = name_of(span, around)
    return found and found.service


Named = tuple[tuple[str, str | int | None], ...]
"""The attributes that may affect a name: strings and integers; None stands for a value of another type."""


def of(pairs: Iterable[KeyValue]) -> Named:
    """Those of the attributes that may affect a name."""
    found = attributes(pair for pair in pairs if pair.key in _KEYS or pair.key.startswith(PREFIXES))
    return tuple([(key, value if type(value) in (str, int) else None) for key, value in found.items()])  # type: ignore[misc]


@attrs.frozen(eq=False)
class Around:
    """The parts of a resource that may affect a name. With them, naming a span takes the same time however long its resource
    is."""

    texts: Mapping[str, str]
    wholes: Mapping[str, int]
    peers: Mapping[str, str]  # from `peers.peers_of`
    size: int  # characters of `texts`


# Law 5: the caches are limited in entries, and an entry may be as large as a record, so larger inputs are not cached.
# The walk over a trace keeps the `Around` of each of its resources until the walk ends.
MAX_REMEMBERED = 8192  # bytes
MAX_NAMED = 2048  # characters; one of the 2048 cached names has them twice, and usually has a few hundred


def around_of(resource: bytes) -> Around:
    """The `Around` of a serialized Resource. A Resource that cannot be parsed counts as one without attributes."""
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


# The attributes of a span that may become its resource and often differ from span to span, since they contain values.
TEXTS = tuple([key for what in ("statement", "route", "template", "resource_name") for key in naming.KEYS[what]])
# Placeholders for a span's name, and for those attributes, in a name that is made for many spans. No input equals them,
# because they are surrogates, which UTF-8 does not have.
_NAME_MARK = "\ud800"
_TEXT_MARKS = {key: chr(0xD801 + place) for place, key in enumerate(TEXTS)}
_SOURCES = {_NAME_MARK: 1} | {mark: 2 + place for place, mark in enumerate(_TEXT_MARKS.values())}


class Template(NamedTuple):
    """The common part of the names of all spans that differ only in their span name and in `TEXTS`."""

    name: Name  # its resource is empty
    source: int  # the text at the end of the resource: 1 is the span's name, 2 and up are `TEXTS`; 0 is no such text
    making: int  # how the resource is obfuscated (`obfuscation.making`)
    resource: str  # the whole resource if `source` is 0; else the part before that text, of any length


def template_of(span: bytes, around: Around, present: int) -> Template | None:
    """The template of a serialized span; None if the span cannot be read.

    `present` has a bit for each of `TEXTS` that is an attribute of the span itself and a string that is not empty.
    """
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
    """The template of a span, and its `db.system` ("" if it has none)."""
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
    """The name, with placeholders for the texts that differ from span to span; and its `db.system`."""
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
    """The gRPC status code as digits, also if it is given by name; empty if there is none or it is unknown."""
    word = naming.grpc_status(subject)
    if word.isascii() and word.isdigit() and len(word) <= 10:
        return str(int(word))
    return _GRPC_CODES.get(word.upper().removeprefix("STATUSCODE.").replace("_", "").replace(" ", ""), "")


# Weights ------------------------------------------------------------------------------------------------------------

ONE = 1 << 20  # weights and counts are integers in units of 1 / ONE, so that sums do not depend on their order
MOST = ONE << 20
MAX_INT64 = 2**63 - 1


def weight(trace_state: bytes, rate: bytes) -> int:
    """How many spans this one represents, in units of 1 / ONE: 1 / the rate of the head sampler.

    `rate` is the serialized attribute `_sample_rate`, or empty. 0 if neither it nor the trace state gives a rate.
    """
    found = _weight if len(trace_state) + len(rate) <= MAX_REMEMBERED // 8 else _weight.__wrapped__
    return found(trace_state, rate)


@lru_cache(4096)
def _weight(trace_state: bytes, rate: bytes) -> int:
    share = kept_share(value_of(rate), trace_state.decode(errors="replace"), 1.0)
    return round(ONE / max(share, ONE / MOST)) if 0 < share < 1 else 0


def is_measured(attribute: bytes) -> bool:
    """Whether the value of the serialized attribute is the integer 1."""
    value = value_of(attribute)
    return type(value) is int and value == 1


def made_whole(start_ns: int, name: Name, root: bool, counts: Sequence[int]) -> list[int]:
    """Round sums of weights to whole numbers, up or down at random, as the agent does. Sums over many groups stay unbiased.

    The random number is a hash of the group's key, so that the same records give the same numbers (law 3). All counts of a
    group use the same one, so that errors never exceed hits.
    """
    if not any(count % ONE for count in counts):
        return [count // ONE for count in counts]
    digest = hashlib.blake2b(repr((start_ns, name, root)).encode(errors="surrogatepass"), digest_size=4).digest()
    chance = int.from_bytes(digest) % ONE
    return [(count + chance) // ONE for count in counts]


# Buckets ------------------------------------------------------------------------------------------------------------

BUCKET_NS = 10 * 1_000_000_000
# Datadog accepts nothing older than an hour; sending may take up to a minute.
OLDEST_NS = 3600 * 1_000_000_000 - 60 * 1_000_000_000
MAX_SERIES = 20_000
MAX_BYTES = 64 * 1024 * 1024


def start_between(start_ns: int, now_ns: int) -> int:
    """The bucket's start, moved to the nearest bucket that Datadog accepts if it is too old or in the future."""
    newest = now_ns - now_ns % BUCKET_NS
    oldest = newest - OLDEST_NS
    return min(max(start_ns, oldest), newest)
