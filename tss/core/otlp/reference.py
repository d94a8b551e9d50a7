"""The scanner written with protobuf: slow and simple. It is the reference for the compiled one, and its fallback.

All spans of a record are parsed in order. A record that is not one trace with valid ids is then split on the wire, so that
protobuf never writes bytes that are exported.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from tss.core.conditions.formula import ERROR, FALSE, TRUE, Fold, OfSpans, Place, Truth
from tss.core.conditions.program import ASKS_NOTHING, Code, Program, Root, run, safe
from tss.core.otlp import nesting, schema, wire
from tss.core.otlp.envelope import LINEAGE_SPANS, MAX_MESSAGE_BYTES, bad_spans, message_of
from tss.core.otlp.fragment import Encoding, Fragment, ScanError, ScanErrorReason
from tss.core.otlp.plain_records import Records
from tss.core.otlp.spanview import Holder, View, events_of, resource_of, scope_of
from tss.core.tracestate import NO_RV, SAW_RV, weight_of

_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)
_NO_PARENT = frozenset((b"", _ZERO_SPAN_ID))
_ERROR = 2  # Status.STATUS_CODE_ERROR
_parse = schema.TracesData.FromString  # looked up once: it is on the path of every record

# The label of a span: its trace id, or the reason why it is rejected.
_Label = bytes | ScanErrorReason


class Scanner:
    """Splits records by trace, and answers a program for each trace, and a second one of the force rules.

    A record is unreadable if the framing of its messages is invalid, down to a span's own fields and its status. The
    content of attributes, events, links, resources and scopes is not checked, because it is passed on unchanged. An
    attribute that cannot be parsed has no value; neither have the attributes of a resource or scope that cannot be parsed.
    A record is also unreadable if a value is nested deeper than OpenTelemetry allows (`nesting`). Every accepted record
    can be read later (`reading`).

    If a span, resource or scope has a key twice, the first one counts, as in the Collector.
    """

    def __init__(self, program: Program = ASKS_NOTHING, rules: Program | None = None, memo_bytes: int = 0) -> None:
        """The compiled one remembers answers in up to ``memo_bytes`` for each of the two programs."""
        self._program = program
        self._rules = rules

    def use(self, rules: Program | None) -> None:
        """From now on answer this program of the force rules, in place of the one before."""
        self._rules = rules

    def records(self) -> Records:
        """An empty batch for what this scanner reads until `use` is called again."""
        return Records(self._program, self._rules)

    def read(self, value: bytes | None, encoding: Encoding, records: Records, scan_errors: list[ScanError]) -> None:
        """Append one fragment for each trace in a record's value to the last record, in the order of first appearance.

        Never raises. Parts that cannot be handled are appended to `scan_errors`. Every span is in exactly one fragment or
        ScanError.
        """
        for fragment in self.fragments(value, encoding, scan_errors):
            records.append(fragment)

    def fragments(self, value: bytes | None, encoding: Encoding, scan_errors: list[ScanError]) -> tuple[Fragment, ...]:
        """The fragments of one record's value as objects."""
        message = message_of(value, encoding, scan_errors)
        if message is None or value is None:
            return ()
        try:
            return self._scan(message, value, scan_errors)
        except wire.SplitTooLarge as error:
            scan_errors.append(ScanError(ScanErrorReason.SPLIT_TOO_LARGE, str(error), value))
        except (DecodeError, wire.WireError) as error:
            scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, str(error), value))
        return ()

    def held_bytes(self) -> int:
        """Memory in bytes that grows with the values seen: none, since nothing is remembered."""
        return 0

    def _scan(self, message: bytes, arrived: bytes, scan_errors: list[ScanError]) -> tuple[Fragment, ...]:
        """Raises DecodeError, WireError and SplitTooLarge."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise DecodeError(f"a message of {len(message)} bytes")
        data = _parse(message)
        if any(nesting.is_too_deep(*piece) for piece in _with_values(data)):
            raise wire.WireError(f"values nested more than {nesting.MAX_VALUE_DEPTH} deep", 0)
        seen = [span for group in data.resource_spans for within in group.scope_spans for span in within.spans]
        if not seen:
            scan_errors.append(ScanError(ScanErrorReason.EMPTY, "the message has no span", arrived))
            return ()
        labels = [_label(span) for span in seen]
        members_of: dict[_Label, list[Any]] = {}
        for label, one in zip(labels, seen, strict=True):
            members_of.setdefault(label, []).append(one)
        found = []
        facts = _facts_by_trace(self._program, data)
        forced = {} if self._rules is None else _facts_by_trace(self._rules, data, weighs=False)
        for label, payload in wire.split(message, labels).items():
            members = members_of[label]
            if isinstance(label, ScanErrorReason):
                scan_errors.append(ScanError(label, _detail(label, members, len(seen)), payload))
            else:
                found.append(_fragment(label, payload, members, facts[label], forced.get(label, b"")))
        return tuple(found)


def _with_values(data: Any) -> Iterator[tuple[bytes, int]]:
    """The messages in a `schema.TracesData` that may have nested values, with their kinds."""
    for group in data.resource_spans:
        yield from ((resource, nesting.RESOURCE) for resource in group.resource)
        for within in group.scope_spans:
            yield from ((scope, nesting.SCOPE) for scope in within.scope)
            for span in within.spans:
                yield from ((attribute, nesting.KEY_VALUE) for attribute in span.attributes)
                yield from ((event, nesting.EVENT) for event in span.events)
                yield from ((link, nesting.LINK) for link in span.links)


def _label(span: Any) -> _Label:
    if len(span.trace_id) != 16 or span.trace_id == _ZERO_TRACE_ID:
        return ScanErrorReason.INVALID_TRACE_ID
    if len(span.span_id) != 8 or span.span_id == _ZERO_SPAN_ID:
        return ScanErrorReason.INVALID_SPAN_ID
    return bytes(span.trace_id)


def _detail(reason: ScanErrorReason, bad: Sequence[Any], total: int) -> str:
    first = bad[0]
    found = first.trace_id if reason is ScanErrorReason.INVALID_TRACE_ID else first.span_id
    return bad_spans(reason, len(bad), total, found)


def _fragment(trace_id: bytes, payload: bytes, spans: Sequence[Any], facts: bytes, forced: bytes) -> Fragment:
    starts = [span.start_time_unix_nano for span in spans]
    span_ids = [span.span_id for span in spans]
    parents = [span.parent_span_id for span in spans]
    return Fragment(
        trace_id,
        payload,
        len(spans),
        [span.status.code for span in spans].count(_ERROR),
        min(filter(None, starts), default=0),
        max(span.end_time_unix_nano for span in spans),
        not _NO_PARENT.isdisjoint(parents),
        b"".join(span_ids),
        _missing(parents, frozenset(span_ids)),
        facts,
        forced,
    )


def facts_by_trace(program: Program, message: bytes, *, weighs: bool = True) -> dict[bytes, bytes]:
    """The facts of each trace in a serialized `TracesData`, by trace id. `weighs`: whether trace states are read. Raises
    DecodeError."""
    return _facts_by_trace(program, _parse(message), weighs=weighs)


def _facts_by_trace(program: Program, data: Any, *, weighs: bool = True) -> dict[bytes, bytes]:
    found: dict[bytes, _Answering] = {}
    for group in data.resource_spans:
        resource = resource_of(group)
        for within in group.scope_spans:
            scope = scope_of(within)
            for span in within.spans:
                if isinstance(label := _label(span), bytes):
                    found.setdefault(label, _Answering(program, weighs=weighs)).add(span, resource, scope)
    return {trace_id: answering.facts() for trace_id, answering in found.items()}


class _Answering:
    """The answers of a program for the spans of one trace in one record. `weighs`: whether trace states are read."""

    def __init__(self, program: Program, *, weighs: bool) -> None:
        self._program = program
        self._weighs = weighs
        self._answers: list[Truth] = [FALSE] * len(program.spans)
        self._root: Root | None = None
        self._marks = 0
        self._rv = NO_RV
        self._times: list[tuple[int, int]] = []

    def facts(self) -> bytes:
        return self._program.make(self._answers, self._root, self._marks, self._rv, self._times)

    def add(self, span: Any, resource: Holder, scope: Holder) -> None:
        """The next span."""
        self._times.append((span.start_time_unix_nano, span.end_time_unix_nano))
        self._weigh(span.trace_state)
        if not self._program.asks:
            return
        view = View(span, resource, scope)
        events = [view.of_event(event, index) for index, event in events_of(span)] if self._program.has_events else []
        program = self._program
        for place, (ask, own, of_events) in enumerate(
            zip(program.spans, program.span_codes, program.event_codes, strict=True)
        ):
            for answer in self._sequence(ask, own, of_events, view, events):
                self._answers[place] = _fold(ask.fold, self._answers[place], answer)
        if program.roots and span.parent_span_id in _NO_PARENT:
            self._see_root(view)

    def _sequence(
        self, ask: OfSpans, own: Code, of_events: Code | None, view: View, events: Sequence[View]
    ) -> Iterator[Truth]:
        if ask.each is Place.EVENT:
            yield from (self._run(own, event) for event in events)
            return
        yield self._run(own, view)
        if of_events is not None:
            yield from (self._run(of_events, event) for event in events)

    def _run(self, code: Code, view: View) -> Truth:
        return run(code, lambda number: self._leaf(number, view), lambda number: self._program.general(number, view))

    def _leaf(self, number: int, view: View) -> Truth:
        leaf = self._program.leaves[number]
        if view.has_no_value(leaf.field):
            return self._program.no_value[number]
        return safe(leaf.test.answer, view.field(leaf.field))

    def _see_root(self, view: View) -> None:
        start, span_id = view.span.start_time_unix_nano, bytes(view.span.span_id)
        if self._root is None or (start, span_id) < (self._root.start_ns, self._root.span_id):
            self._root = Root(start, span_id, [self._run(code, view) for code in self._program.root_codes])

    def _weigh(self, trace_state: bytes) -> None:
        if not trace_state or not self._weighs:
            return
        marks, rv = weight_of(trace_state)
        if marks & SAW_RV and not self._marks & SAW_RV:
            self._rv = rv
        self._marks |= marks


def _fold(fold: Fold, before: Truth, answer: Truth) -> Truth:
    if fold is Fold.FIRST:
        return before or answer
    return max(before, answer, key=(FALSE, ERROR, TRUE).index)


def _missing(parents: Iterable[bytes], span_ids: frozenset[bytes]) -> bytes:
    named = (parent if len(parent) == 8 else _ZERO_SPAN_ID for parent in parents if parent not in _NO_PARENT)
    return b"".join(dict.fromkeys(parent for parent in named if parent not in span_ids))


_Ids = bytes  # an alias, because `Lineage` has a property called bytes


class Lineage:
    """Knows which parents of one trace's spans are missing, over any number of fragments.

    After `LINEAGE_SPANS` ids, seen or named as a parent, it forgets all ids and stays open: the trace counts as incomplete.
    """

    __slots__ = ("_full", "_named", "_seen")

    def __init__(self) -> None:
        self._seen: set[_Ids] = set()
        self._named: set[_Ids] = set()  # parents that were named and have not been seen
        self._full = False

    def add(self, span_ids: _Ids, missing: _Ids) -> None:
        """Add a fragment's `span_ids` and `missing`. Raises ValueError if a length is not a multiple of 8 bytes."""
        if len(span_ids) % 8 or len(missing) % 8:
            raise ValueError(f"ids are 8 bytes each, not {len(span_ids)} and {len(missing)} in all")
        if self._full:
            return
        seen = set(_each(span_ids)) - {_ZERO_SPAN_ID}  # not a span's id: it stands for a parent id of invalid length
        self._seen |= seen
        self._named -= seen
        self._named.update([parent for parent in _each(missing) if parent not in self._seen])
        if len(self._seen) + len(self._named) - (_ZERO_SPAN_ID in self._named) > LINEAGE_SPANS:
            self._seen, self._named, self._full = set(), set(), True

    def take(self, records: Records, at: int) -> None:
        """Add the ids of this fragment."""
        self.add(records.span_ids(at), records.missing(at))

    @property
    def open(self) -> int:
        """The number of parents that were named and have not been seen."""
        return 1 if self._full else len(self._named)

    @property
    def bytes(self) -> int:
        """Its memory in bytes."""
        each = _ZERO_SPAN_ID.__sizeof__()
        sets = sum(ids.__sizeof__() + each * len(ids) for ids in (self._seen, self._named))
        return object.__sizeof__(self) + sets

    def known(self) -> tuple[_Ids, _Ids, bool]:
        """The seen ids and the open ones, in the form that `add` takes, and whether there were too many."""
        return b"".join(sorted(self._seen)), b"".join(sorted(self._named)), self._full

    def overflow(self) -> None:
        """Forget all ids and stay open, as after too many ids."""
        self._seen, self._named, self._full = set(), set(), True

    def __repr__(self) -> str:
        return f"Lineage(open={self.open})"


def _each(ids: bytes) -> Iterator[bytes]:
    return (ids[at : at + 8] for at in range(0, len(ids), 8))
