"""Records for the benchmark: many realistic traces, made quickly by filling ids and times into a few serialized ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import cycle
from random import Random

from attrs import field, frozen, validators
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

SPAN_BYTES = 460  # in the mean, its share of the resource included
TRACE_SPANS = 8  # of the traces that lie in several records, if they are not scattered
INTERLEAVED = 16  # how many of those traces are under way at once, at least
# A Collector with `partition_traces_by_id` writes a record for each trace in each of its batches. An SDK sends a span
# when it ends, so a batch rarely has more than a few spans of a trace: measured, 3,802 records of 3,802 spans.
SCATTERED_RECORDS = range(5, 21)  # of a trace, one trace of each
SCATTERED_SPANS = (1, 2, 3)  # in a record, by turns, all of one service
STEP_MS = 2  # of log time between two records
TEMPLATE_SPANS = 8192  # in all: more than any dictionary or window of a compressor can know by heart
TEMPLATES = 16  # at least

# What stands in a template for what each trace has of its own. All of fixed size on the wire, so that filling them in
# moves nothing: fourteen bytes of a trace id, the six bytes that the span ids of a group share, the upper half of a
# time in ns.
_TRACE_ID = b"\xf5<- TRACE ->\xf6\xf7"
_SPAN_ID = b"\xf5SPAN\xf6"
_TIME = b"\xf5T\xf6\x17"
_TIME_UNIT = 1 << 32  # ns
_PATH = "<PATH>"  # of a group, in the values of `url.path`

_SERVICES = ("storefront", "checkout", "payment", "inventory")
_MORE_SERVICES = (*_SERVICES, "pricing", "search", "session", "shipping", "mail", "ledger")
SHAPES = ("keyed", "mixed", "scattered")
_WORDS = [
    "orders",
    "items",
    "stock",
    "price",
    "session",
    "customer",
    "basket",
    "region",
    "channel",
    "coupon",
    "carrier",
    "invoice",
    "refund",
    "catalog",
]
# Attributes before and after the one that is stretched to bring a template to its size.
_HTTP: dict[str, str | int] = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "server.address": "checkout.shop.svc.cluster.local",
    "server.port": 8080,
    "network.protocol.version": "1.1",
    "url.path": "",
    "url.full": "",
}
_SQL: dict[str, str | int] = {
    "db.system.name": "postgresql",
    "db.namespace": "checkout",
    "db.operation.name": "SELECT",
    "server.address": "checkout-db.shop.svc.cluster.local",
    "db.response.returned_rows": 17,
    "db.query.text": "",
}
PATHS = 100_000  # values of `url.path` in a corpus, at most
_PATHS_OF_A_GROUP = 10
_STRETCHED = frozenset(("url.full", "db.query.text"))


@frozen
class Corpus:
    """What the records of a topic are like.

    Keyed: a record is of one trace, which is its key; a whole trace, unless it has one span. Mixed: each of its spans
    is of another trace, as in a batch of whatever came to a collector; the traces of a group share their records, and
    the records of a group their key, so that every trace can be judged whole. Scattered: as a Collector with
    `partition_traces_by_id` writes them, a trace in 5 to 20 records of 1 to 3 spans, several services, its id as key.
    """

    record_spans: int  # of a scattered one: in the mean
    shape: str = field(default="keyed", validator=validators.in_(SHAPES))
    keep: float = 0.05  # share of the traces that have an error

    def __str__(self) -> str:
        spans = f"{SCATTERED_SPANS[0]}-{SCATTERED_SPANS[-1]}" if self.is_scattered else self.record_spans
        return f"{spans} {self.shape} {100 * self.keep:g} %"

    @property
    def is_mixed(self) -> bool:
        return self.shape == "mixed"

    @property
    def is_scattered(self) -> bool:
        return self.shape == "scattered"

    @property
    def trace_spans(self) -> int:
        """Of a trace, in the mean."""
        return self.group_spans // self.group_traces

    @property
    def group_traces(self) -> int:
        """How many traces are under way at once: the records of so many come together."""
        if self.is_scattered:
            return len(SCATTERED_RECORDS)
        return self.record_spans * -(-INTERLEAVED // self.record_spans) if self._interleaved else 1

    @property
    def group_records(self) -> int:
        return sum(SCATTERED_RECORDS) if self.is_scattered else self.group_spans // self.record_spans

    @property
    def group_spans(self) -> int:
        return sum(map(sum, self.group_layout))

    @property
    def group_layout(self) -> list[list[int]]:
        """Of each trace of a group the spans in each of its records; a mixed one's are one by one, in shared records."""
        if self.is_scattered:
            turns = cycle(SCATTERED_SPANS)
            return [[next(turns) for _ in range(count)] for count in SCATTERED_RECORDS]
        if self._interleaved:
            return [[1] * TRACE_SPANS] * self.group_traces
        return [[self.record_spans]]

    @property
    def _interleaved(self) -> bool:
        return self.is_mixed or self.record_spans == 1

    def groups(self, count: int, epoch_ns: int) -> Iterator[Group]:
        """So many of them, the same ones each time but for the clock: their traces begin at ``epoch_ns``."""
        rng = Random(str(self))
        template = cache(lambda errors, number: _template(Random(f"{self} {errors} {number}"), self, errors))
        templates = max(TEMPLATES, TEMPLATE_SPANS // self.group_spans)
        for number in range(count):
            errors = sum(rng.random() < self.keep for _ in range(self.group_traces))
            time_ns = epoch_ns + number * self.group_records * STEP_MS * 1_000_000
            path = f"{rng.randrange(PATHS // _PATHS_OF_A_GROUP):0{len(_PATH)}}".encode()
            yield template(errors, rng.randrange(templates)).filled(rng.randbytes(14), rng.randbytes(6), time_ns, path)


SCATTERED = Corpus(2, shape="scattered")
USUAL = [
    SCATTERED, Corpus(1), Corpus(8), Corpus(50), Corpus(8, shape="mixed"), Corpus(8, keep=0.001), Corpus(8, keep=1.0),
]  # fmt: skip


@frozen
class Group:
    """Some traces, and the records that all their spans are in."""

    records: list[tuple[bytes, bytes]]  # key and value
    keep: list[bytes]  # of each span in a trace with an error: trace id and span id


@frozen
class _Template:
    """A group with slots in it, for bytes' % operator."""

    records: list[tuple[bytes, bytes]]  # the end of the key, the value with its slots
    keep: list[tuple[bytes, bytes]]  # the ends of trace id and span id

    def filled(self, trace_id: bytes, span_id: bytes, time_ns: int, path: bytes) -> Group:
        time = (time_ns // _TIME_UNIT).to_bytes(4, "little")
        slots = {b"trace": trace_id, b"span": span_id, b"time": time, b"path": path}
        key = trace_id.hex().encode()
        return Group(
            [(key + end, value % slots) for end, value in self.records],
            [trace_id + end + span_id + number for end, number in self.keep],
        )


def _template(rng: Random, corpus: Corpus, errors: int) -> _Template:
    """A group in which so many traces have an error."""
    ends = [end.to_bytes(2, "big") for end in rng.sample(range(1 << 16), corpus.group_traces)]  # of the trace ids
    traces, first = [], 0
    for end, layout in zip(ends, corpus.group_layout, strict=True):
        traces.append(_trace(rng, end, first, sum(layout)))
        first += sum(layout)
    failed = rng.sample(range(len(traces)), errors)
    for trace in failed:
        status = Status(code=Status.STATUS_CODE_ERROR, message="upstream connect timeout")
        rng.choice(traces[trace]).status.CopyFrom(status)
    records = []
    for spans in _laid_out(rng, traces, corpus):
        key = ends[0] if corpus.is_mixed else spans[0].trace_id[-2:]
        records.append((key.hex().encode(), _slotted(_message(rng, spans, corpus).SerializeToString())))
    keep = [(ends[trace], span.span_id[-2:]) for trace in failed for span in traces[trace]]
    return _Template(records, keep)


def _laid_out(rng: Random, traces: list[list[Span]], corpus: Corpus) -> Iterator[list[Span]]:
    """The spans of each record: the next of each trace, in any order, until none has any more."""
    if corpus.is_mixed:
        for row in zip(*traces, strict=True):
            mixed = rng.sample(row, len(row))
            for start in range(0, len(mixed), corpus.record_spans):
                yield mixed[start : start + corpus.record_spans]
        return
    waiting = [(iter(trace), iter(layout)) for trace, layout in zip(traces, corpus.group_layout, strict=True)]
    while waiting:
        going = []
        for spans, layout in rng.sample(waiting, len(waiting)):
            if (count := next(layout, 0)) > 0:
                yield [next(spans) for _ in range(count)]
                going.append((spans, layout))
        waiting = going


def _slotted(message: bytes) -> bytes:
    message = message.replace(b"%", b"%%")
    message = message.replace(_TRACE_ID, b"%(trace)b").replace(_SPAN_ID, b"%(span)b").replace(_TIME, b"%(time)b")
    return message.replace(_PATH.encode(), b"%(path)b")


def _message(rng: Random, spans: list[Span], corpus: Corpus) -> TracesData:
    """The spans by service, one to four of them, brought to their size; a scattered record is of one service."""
    services = rng.sample(_SERVICES, min(len(_SERVICES), -(-len(spans) // 6)))
    if corpus.is_scattered:
        services = [rng.choice(_MORE_SERVICES)]
    data = TracesData()
    for number, service in enumerate(services):
        scope = InstrumentationScope(name="io.opentelemetry.http-client", version="2.7.0")
        group = ResourceSpans(resource=_resource(rng, service, full=corpus.is_scattered))
        group.scope_spans.append(ScopeSpans(scope=scope, spans=spans[number :: len(services)]))
        data.resource_spans.append(group)
    _stretch(rng, data, SPAN_BYTES * len(spans))
    return data


def _stretch(rng: Random, data: TracesData, size: int) -> None:
    texts = [
        attribute.value
        for resource in data.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        for attribute in span.attributes
        if attribute.key in _STRETCHED
    ]
    while (room := size - data.ByteSize()) > 0:
        for _ in range(1 + room // 32):  # a piece has half as many bytes; to ask for the size each time is slow
            rng.choice(texts).string_value += f"&{rng.choice(_WORDS)}={rng.randrange(10_000)}"[:room]


def _resource(rng: Random, service: str, full: bool) -> Resource:
    """Full: as the SDK's and Kubernetes' detectors leave it, some 450 bytes that come with each record."""
    attributes: dict[str, str | int] = {
        "service.name": service,
        "k8s.pod.name": f"{service}-{rng.randrange(1 << 32):08x}",
    }
    if full:
        attributes |= {
            "service.namespace": "shop",
            "service.version": f"{rng.randrange(40)}.{rng.randrange(40)}.0",
            "service.instance.id": f"{rng.getrandbits(128):032x}",
            "deployment.environment.name": "production",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": rng.choice(("java", "go", "python", "nodejs")),
            "telemetry.sdk.version": "1.44.0",
            "k8s.namespace.name": "shop",
            "k8s.node.name": f"node-{rng.randrange(400):03d}",
            "k8s.deployment.name": service,
            "process.pid": rng.randrange(2, 40_000),
        }
    return Resource(attributes=_attributes(attributes))


def _trace(rng: Random, end: bytes, first: int, count: int) -> list[Span]:
    """The first span is the root; the others hang below an earlier one. Span ids are numbered throughout the group."""
    spans = [_span(rng, first + each, first + rng.randrange(each) if each else None) for each in range(count)]
    for span in spans:
        span.trace_id = _TRACE_ID + end
    return spans


def _span(rng: Random, number: int, parent: int | None) -> Span:
    start = rng.randrange(1_000_000_000)
    http = parent is None or rng.random() < 0.6
    path: dict[str, str | int] = {"url.path": f"/api/orders/{_PATH}/items/{rng.randrange(_PATHS_OF_A_GROUP)}"}
    return Span(
        span_id=_span_id(number),
        parent_span_id=b"" if parent is None else _span_id(parent),
        name="GET /api/checkout" if http else "SELECT checkout.orders",
        kind=Span.SPAN_KIND_SERVER if parent is None else Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_time(start),
        end_time_unix_nano=_time(start + rng.randrange(1_000_000_000)),
        attributes=_attributes(_HTTP | path if http else _SQL),
        flags=0x101,
    )


def _span_id(number: int) -> bytes:
    return _SPAN_ID + number.to_bytes(2, "big")


def _time(lower: int) -> int:
    return int.from_bytes(_TIME, "little") * _TIME_UNIT + lower


def _attributes(values: dict[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in values.items()
    ]
