# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled scanner: one pass over a record's bytes, without Python objects for spans.

The pass stores in C arrays what each span adds to its trace (`Span`, `Trace`), where a split would cut (`Holder`, `Run`),
and the looked-up attributes (`Hit`). Then the results are made: one `Fragment` per trace. For any bytes it finds the same
as `reference`; only the texts of the errors differ.

Safety: only `protobuf` moves a position, one function grows all arrays, nothing recurses on data, and groups may be nested
as deep as protobuf allows. Source of the field numbers: opentelemetry-proto, `trace/v1/trace.proto`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from tss.core.otlp.found cimport (
    BAD_SPAN_ID, BAD_TRACE_ID, GOOD, INT, MESSAGE, NAMED, NONE, NOT_PLAIN, ODD, PLAIN_KIND, PLAIN_NAME, PLAIN_STATUS,
    PLAIN_TRACE_STATE, RESOURCE, ROOT, SCOPE, TEXT, Chain, Hit, Holder, Key, Keys, TraceKind, Level, Run, Scan, Span, Text,
    Trace, grow, holders, release, runs, set_up, spans, traces,
)
from tss.core.otlp.fragment cimport Fragment
from tss.core.otlp.ids cimport Seed, id_at, mixed, new_seed, slot_of_id
from tss.core.otlp.parts cimport affordable, part_of
from tss.core.otlp.protobuf cimport (
    FIXED64, LENGTH, MAX_DEPTH, NO_MEMORY, NO_TROUBLE, VALUE_TOO_DEEP, VARINT, Pos, content, fail, fixed64, head, skip, varint,
)
from tss.core.otlp.values cimport (
    DEEP_BYTES, KEY_VALUE, OF_EVENT, OF_LINK, OF_RESOURCE, OF_SCOPE, SHARED_TEXTS, WITHOUT, Nested, attribute, attributes,
    is_too_deep, keep, slot_of, values_of, values_of_each_span,
)

from tss.core.conditions.program import ASKS_NOTHING
from tss.core.otlp.envelope import MAX_MESSAGE_BYTES, OPENING_BRACE, bad_spans, message_of
from tss.core.otlp.fragment import Encoding, ScanError, ScanErrorReason
from tss.core.otlp.lookup import NOTHING, Location
from tss.core.otlp.reference import facts_by_trace
from tss.core.otlp.wire import MAX_SPLIT_BYTES, WireError

cdef enum:
    # The room on the stack; records that need more use the heap. 48 spans of 56 bytes are 2.7 kB.
    FIRST_SPANS = 48
    FIRST_FEW = 8
    # Up to this many ids, a linear search is cheaper than a hash table.
    FEW_IDS = 24
    FEW_TRACES = 8
    # From this size on the GIL is released. Beside a thread that is always busy, taking the GIL back costs up to the switch
    # interval of 5 ms, which is longer than a scan. Measured with two such threads: releasing it for records of 69 kB
    # (6 us) left the scans 1/15 of the time instead of 1/2; at 1 MB (95 us) 1/5. Only at 10 MB (1 ms) did both threads
    # together do more than one alone (1.08). Kafka's default limit for a record is 1 MB.
    WITHOUT_GIL_BYTES = 16777216

cdef tuple TROUBLES = (
    "",
    "a length of {a} bytes runs {b} bytes past the end of its message",
    "a field that the end of its message cuts off",
    "a varint of more than ten bytes",
    "a tag or length of more than 32 bits",
    "the field number 0",
    "the unknown wire type {a}",
    "the end of a group that was never opened",
    "the end of another group than the one open",
    "a group that is never closed",
    "messages and groups nested more than 100 deep",
    "values nested more than 64 deep",
    "",
)

cdef uint64_t MOST_BYTES = MAX_MESSAGE_BYTES
cdef uint8_t BRACE = OPENING_BRACE
cdef Seed SEED = new_seed()

cdef object JSON = Encoding.OTLP_JSON
cdef object PROTO = Encoding.OTLP_PROTO
cdef object INVALID_TRACE_ID = ScanErrorReason.INVALID_TRACE_ID
cdef object INVALID_SPAN_ID = ScanErrorReason.INVALID_SPAN_ID


cdef struct Firsts:  # room on the stack, enough for an ordinary record
    Span[FIRST_SPANS] spans
    Trace[FIRST_FEW] traces
    Holder[FIRST_FEW] holders
    Run[FIRST_FEW] runs
    Hit[FIRST_FEW] hits


# Traces -------------------------------------------------------------------------------------------------------------


cdef inline bint is_trace(Trace *trace, uint64_t high, uint64_t low) noexcept nogil:
    return trace.high == high and trace.low == low and trace.kind == GOOD


cdef bint index_traces(Scan *s) noexcept nogil:
    """Enter all traces in an index that is at most half full. False if there is no memory."""
    cdef uint32_t room = s.traces.used * 4, number, slot
    free(s.index)
    s.index = <uint32_t *> calloc(room, sizeof(uint32_t))
    if s.index == NULL:
        fail(&s.failure, NO_MEMORY, s.base)
        return False
    s.index_room = room
    for number in range(s.traces.used):
        if traces(s)[number].kind == GOOD:
            slot = slot_for(s, traces(s)[number].high, traces(s)[number].low)
            s.index[slot] = number + 1
    return True


cdef uint32_t slot_for(Scan *s, uint64_t high, uint64_t low) noexcept nogil:
    """The trace's slot in the index, or the free slot where it belongs."""
    cdef uint32_t slot = (mixed(&SEED, mixed(&SEED, high) ^ low) >> 32) * s.index_room >> 32
    while s.index[slot] and not is_trace(traces(s) + (s.index[slot] - 1), high, low):
        slot += 1
        if slot == s.index_room:
            slot = 0
    return slot


cdef bint new_trace(Scan *s, TraceKind kind, uint64_t high, uint64_t low) noexcept nogil:
    """Append a trace without spans. False if there is no memory."""
    cdef Trace *trace
    if s.traces.used == s.traces.room and not grow(s, &s.traces):
        return False
    trace = traces(s) + s.traces.used
    s.traces.used += 1
    memset(trace, 0, sizeof(Trace))
    trace.high, trace.low, trace.kind, trace.first = high, low, kind, NONE
    return True


cdef uint32_t good_trace(Scan *s, uint64_t high, uint64_t low) noexcept nogil:
    """The number of the trace with this id, which is added if it is new. NONE if there is no memory."""
    cdef uint32_t number, slot = 0
    if s.traces.used and is_trace(traces(s) + s.last_trace, high, low):
        return s.last_trace
    if s.traces.used <= FEW_TRACES:
        for number in range(s.traces.used):
            if is_trace(traces(s) + number, high, low):
                return number
    else:
        if s.traces.used * 2 > s.index_room and not index_traces(s):
            return NONE
        slot = slot_for(s, high, low)
        if s.index[slot]:
            return s.index[slot] - 1
    number = s.traces.used
    if not new_trace(s, GOOD, high, low):
        return NONE
    if s.index != NULL:
        s.index[slot] = number + 1
    return number


cdef uint32_t bad_trace(Scan *s, TraceKind kind, Text *found) noexcept nogil:
    """The number of the entry for all spans with this kind of bad id; `found` is the id. NONE if there is no memory."""
    cdef uint32_t number = s.bad_traces[<int> kind]
    if number == NONE:
        number = s.traces.used
        if not new_trace(s, kind, 0, 0):
            return NONE
        traces(s)[number].bad_id = found.at - s.base if found.size else 0
        traces(s)[number].bad_length = found.size
        s.bad_traces[<int> kind] = number
    return number


# The pass -----------------------------------------------------------------------------------------------------------


cdef struct Seen:  # the fields of the span that is being read
    Text trace_id
    Text span_id
    Text parent_id
    Text name
    Text trace_state
    int32_t kind
    int32_t status
    uint64_t start_ns
    uint64_t end_ns


cdef Pos read_status(Scan *s, Pos at, Pos stop, Seen *seen) noexcept nogil:
    cdef uint64_t tag = 0, value = 0
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (3 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &value)
            seen.status = <int32_t> <uint32_t> value
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH - 4)
    return at


cdef bint is_shallow(Scan *s, uint64_t tag, Pos body, Pos end) noexcept nogil:
    """Whether no value in a span's field is nested too deep. If one is, `failure` is set."""
    cdef Nested kind = WITHOUT
    if tag == (9 << 3 | LENGTH):
        kind = KEY_VALUE
    elif tag == (11 << 3 | LENGTH):
        kind = OF_EVENT
    elif tag == (13 << 3 | LENGTH):
        kind = OF_LINK
    if kind == WITHOUT or not is_too_deep(body, end, kind):
        return True
    fail(&s.failure, VALUE_TOO_DEEP, body)
    return False


cdef inline bint read_part(Scan *s, uint64_t tag, Pos body, Pos end, Seen *seen, Chain *chain) noexcept nogil:
    """Note a length-delimited field of a span. False after an error."""
    if end - body > DEEP_BYTES and not is_shallow(s, tag, body, end):
        return False
    if tag == (9 << 3 | LENGTH):
        return not s.wanted.spans.used or attribute(s, &s.wanted.spans, body, end, chain)
    elif tag == (1 << 3 | LENGTH):
        seen.trace_id.at, seen.trace_id.size = body, end - body
    elif tag == (2 << 3 | LENGTH):
        seen.span_id.at, seen.span_id.size = body, end - body
    elif tag == (3 << 3 | LENGTH):
        seen.trace_state.at, seen.trace_state.size = body, end - body
        s.has_states |= end > body
    elif tag == (4 << 3 | LENGTH):
        seen.parent_id.at, seen.parent_id.size = body, end - body
    elif tag == (5 << 3 | LENGTH):
        seen.name.at, seen.name.size = body, end - body
    elif tag == (15 << 3 | LENGTH):
        return read_status(s, body, end, seen) != NULL
    return True


cdef Pos read_span(Scan *s, Pos at, Pos stop, Seen *seen, Chain *chain) noexcept nogil:
    """Read a span's fields. If a field occurs twice, the last one counts; two statuses are merged."""
    cdef uint64_t tag = 0, value = 0
    cdef Pos body, end = NULL
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag & 7 == LENGTH and tag >= 8:
            body = content(&s.failure, at, stop, &end)
            at = end
            if body == NULL or not read_part(s, tag, body, at, seen, chain):
                return NULL
        elif tag == (7 << 3 | FIXED64):
            at = fixed64(&s.failure, at, stop, &seen.start_ns)
        elif tag == (8 << 3 | FIXED64):
            at = fixed64(&s.failure, at, stop, &seen.end_ns)
        elif tag == (6 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &value)
            seen.kind = <int32_t> <uint32_t> value
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH - 3)
    return at


cdef bint keep_plain(Scan *s, Seen *seen, Chain *chain) noexcept nogil:
    """Note the fields of a span that are asked for. False if there is no memory."""
    cdef uint32_t ask
    cdef Hit hit
    for ask in range(s.wanted.asks):
        if s.wanted.plain[ask] == PLAIN_NAME:
            hit.type, hit.at, hit.bits = TEXT, seen.name.at, seen.name.size
        elif s.wanted.plain[ask] == PLAIN_TRACE_STATE:
            hit.type, hit.at, hit.bits = TEXT, seen.trace_state.at, seen.trace_state.size
        elif s.wanted.plain[ask] == PLAIN_KIND:
            hit.type, hit.at, hit.bits = INT, NULL, <uint64_t> <int64_t> seen.kind
        elif s.wanted.plain[ask] == PLAIN_STATUS:
            hit.type, hit.at, hit.bits = INT, NULL, <uint64_t> <int64_t> seen.status
        else:
            continue
        if not keep(s, &hit, ask, chain):
            return False
    return True


cdef uint32_t trace_of(Scan *s, Seen *seen) noexcept nogil:
    """The number of the trace of a span, or of the entry for its kind of bad id. NONE if there is no memory."""
    cdef uint64_t high, low
    if seen.trace_id.size != 16:
        return bad_trace(s, BAD_TRACE_ID, &seen.trace_id)
    high, low = id_at(seen.trace_id.at), id_at(seen.trace_id.at + 8)
    if not (high | low):
        return bad_trace(s, BAD_TRACE_ID, &seen.trace_id)
    if seen.span_id.size != 8 or not id_at(seen.span_id.at):
        return bad_trace(s, BAD_SPAN_ID, &seen.span_id)
    return good_trace(s, high, low)


cdef inline void enter(Scan *s, uint32_t number, Span *span, uint32_t trace_number, Seen *seen) noexcept nogil:
    """Add a span to the summary of its trace."""
    cdef Trace *trace = traces(s) + trace_number
    if trace.first == NONE:
        trace.first = number
    else:
        spans(s)[trace.last].next = number
    trace.last = number
    s.last_trace = trace_number
    trace.spans += 1
    trace.errors += seen.status == 2
    if seen.start_ns and (seen.start_ns < trace.start_ns or not trace.start_ns):
        trace.start_ns = seen.start_ns
    if seen.end_ns > trace.end_ns:
        trace.end_ns = seen.end_ns
    span.parent_id = id_at(seen.parent_id.at) if seen.parent_id.size == 8 else 0
    if span.parent_id:
        span.parent = NAMED
    elif seen.parent_id.size == 0 or seen.parent_id.size == 8:
        span.parent = ROOT
    else:
        span.parent = ODD
    trace.has_root |= span.parent == ROOT
    trace.named += span.parent != ROOT
    span.span_id = id_at(seen.span_id.at) if trace.kind == GOOD else 0


cdef bint walk_span(Scan *s, Pos start, Pos at, Pos stop, uint32_t scope) noexcept nogil:
    """Read one span, whose field starts at `start`. False after an error."""
    cdef Seen seen
    cdef Chain chain
    cdef Span *span
    cdef uint32_t number = s.spans.used, trace
    chain.first = chain.last = NONE
    memset(&seen, 0, sizeof(Seen))
    if read_span(s, at, stop, &seen, &chain) == NULL:
        return False
    if s.wanted.plain_any and not keep_plain(s, &seen, &chain):
        return False
    trace = trace_of(s, &seen)
    if trace == NONE or (number == s.spans.room and not grow(s, &s.spans)):
        return False
    s.spans.used += 1
    span = spans(s) + number
    span.start, span.stop = start - s.base, stop - s.base
    span.scope, span.next, span.hits = scope, NONE, chain.first
    enter(s, number, span, trace, &seen)
    return True


cdef bint share(Scan *s, Holder *holder, uint32_t start, uint32_t stop) noexcept nogil:
    """Note a field that goes into each part of its holder. False if there is no memory."""
    cdef uint32_t number = s.runs.used
    holder.shared_bytes += stop - start
    holder.shared_fields += 1
    if holder.runs.last != NONE and runs(s)[holder.runs.last].stop == start:
        runs(s)[holder.runs.last].stop = stop
        return True
    if number == s.runs.room and not grow(s, &s.runs):
        return False
    s.runs.used += 1
    runs(s)[number].start, runs(s)[number].stop, runs(s)[number].next = start, stop, NONE
    if holder.runs.first == NONE:
        holder.runs.first = number
    else:
        runs(s)[holder.runs.last].next = number
    holder.runs.last = number
    return True


cdef bint read_shared(Scan *s, uint32_t number, Level level, Pos at, Pos stop, bint asked) noexcept nogil:
    """Look up attributes in a resource or scope. False after an error."""
    cdef Pos end = NULL
    cdef Pos body = content(&s.failure, at, stop, &end)
    if body == NULL:
        return False
    if end - body > DEEP_BYTES and is_too_deep(body, end, OF_RESOURCE if level == RESOURCE else OF_SCOPE):
        fail(&s.failure, VALUE_TOO_DEEP, body)
        return False
    if not asked:
        return True
    if level == RESOURCE:
        return attributes(s, &s.wanted.resources, 1 << 3 | LENGTH, body, end, &holders(s)[number].hits)
    return attributes(s, &s.wanted.scopes, 3 << 3 | LENGTH, body, end, &holders(s)[number].hits)


cdef bint walk_fields(Scan *s, uint32_t number, Level level, Pos at, Pos stop) noexcept nogil:
    """Read the fields of a holder. False after an error."""
    cdef uint64_t tag = 0, down = 1 << 3 | LENGTH if level == MESSAGE else 2 << 3 | LENGTH
    cdef bint asked = level == RESOURCE and s.wanted.resources.used or level == SCOPE and s.wanted.scopes.used
    cdef Pos field, body, size_at, end = NULL
    while at < stop:
        field = at
        at = size_at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return False
        if tag == down:
            body = content(&s.failure, at, stop, &end)
            at = end
            if body == NULL:
                return False
            if level == SCOPE:
                if not walk_span(s, field, body, at, number):
                    return False
            elif not walk_holder(s, number, <Level> (level + 1), field, size_at, body, at):
                return False
            continue
        if tag == (1 << 3 | LENGTH) and not read_shared(s, number, level, at, stop, asked):
            return False
        at = skip(&s.failure, at, stop, tag, MAX_DEPTH - <int> level)
        if at == NULL or not share(s, holders(s) + number, field - s.base, at - s.base):
            return False
    return True


cdef bint walk_holder(
    Scan *s, uint32_t within, Level level, Pos start, Pos size_at, Pos body, Pos stop
) noexcept nogil:
    """Read a holder whose field starts at `start`. False after an error."""
    cdef uint32_t number = s.holders.used, runs_before = s.runs.used, hits_before = s.hits.used
    cdef uint32_t spans_before = s.spans.used
    cdef Holder *holder
    if number == s.holders.room and not grow(s, &s.holders):
        return False
    s.holders.used += 1
    holder = holders(s) + number
    holder.start, holder.content, holder.stop = start - s.base, size_at - s.base, stop - s.base
    holder.within, holder.traces, holder.shared_bytes, holder.shared_fields = within, 0, 0, 0
    holder.runs.first = holder.runs.last = holder.hits.first = holder.hits.last = NONE
    if not walk_fields(s, number, level, body, stop):
        return False
    if s.spans.used == spans_before:  # then it belongs to no trace
        s.holders.used, s.runs.used, s.hits.used = number, runs_before, hits_before
    return True


# Results ------------------------------------------------------------------------------------------------------------


cdef inline bint among(uint64_t wanted, const uint64_t *ids, uint32_t count) noexcept nogil:
    cdef uint32_t number
    for number in range(count):
        if ids[number] == wanted:
            return True
    return False


cdef bytes packed(const uint64_t *ids, uint32_t count):
    return PyBytes_FromStringAndSize(<const char *> ids, <Py_ssize_t> count * 8)


cdef uint32_t few_missing(Scan *s, Trace *trace, const uint64_t *ids, uint64_t *out) noexcept nogil:
    """Write the missing parents of a trace of few spans to `out`. Returns their number."""
    cdef uint32_t at = trace.first, found = 0
    cdef Span *span
    while at != NONE:
        span = spans(s) + at
        if span.parent != ROOT and (span.parent == ODD or not among(span.parent_id, ids, trace.spans)):
            if not among(span.parent_id, out, found):
                out[found] = span.parent_id  # 0 for an id of invalid length
                found += 1
        at = span.next
    return found


cdef inline bint enter_id(uint64_t *table, uint32_t room, uint64_t id) noexcept nogil:
    """Add an id, which is not 0, to the table. Returns whether it is new."""
    cdef uint32_t slot = slot_of_id(&SEED, table, room, id)
    if table[slot]:
        return False
    table[slot] = id
    return True


cdef uint32_t many_missing(
    Scan *s, Trace *trace, const uint64_t *ids, uint64_t *out, uint64_t *table, uint32_t room
) noexcept nogil:
    """The same as `few_missing`, with an empty table at least twice as large as the number of ids and parents."""
    cdef uint32_t at = trace.first, found = 0, number
    cdef bint odd = False
    cdef Span *span
    for number in range(trace.spans):
        enter_id(table, room, ids[number])
    while at != NONE:
        span = spans(s) + at
        if span.parent == NAMED and enter_id(table, room, span.parent_id) or span.parent == ODD and not odd:
            odd |= span.parent == ODD
            out[found] = span.parent_id
            found += 1
        at = span.next
    return found


cdef bytes missing(Scan *s, Trace *trace, bytes span_ids):
    cdef uint64_t[FEW_IDS] few
    cdef const uint64_t *ids = <const uint64_t *> PyBytes_AS_STRING(span_ids)  # bytes objects are aligned to 8
    cdef uint64_t *table
    cdef uint64_t room
    cdef uint32_t found
    if trace.named == 0:
        return b""
    if trace.spans <= FEW_IDS:
        found = few_missing(s, trace, ids, few)
        return packed(few, found) if found else b""
    room = (<uint64_t> trace.spans + trace.named) * 2
    table = <uint64_t *> calloc(room + trace.named, sizeof(uint64_t))
    if table == NULL:
        raise MemoryError
    found = many_missing(s, trace, ids, table + room, table, room)
    try:
        return packed(table + room, found) if found else b""
    finally:
        free(table)


cdef bytes span_ids_of(Scan *s, Trace *trace):
    cdef bytes ids = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> trace.spans * 8)
    cdef uint64_t *out = <uint64_t *> PyBytes_AS_STRING(ids)
    cdef uint32_t at = trace.first
    while at != NONE:
        out[0] = spans(s)[at].span_id
        out += 1
        at = spans(s)[at].next
    return ids


cdef Fragment fragment_of(Scan *s, Trace *trace, bytes payload, list texts, list alive):
    cdef Fragment fragment = Fragment.__new__(Fragment)
    cdef uint64_t[2] trace_id
    trace_id[0], trace_id[1] = trace.high, trace.low
    fragment.trace_id = PyBytes_FromStringAndSize(<const char *> trace_id, 16)
    fragment.payload = payload
    fragment.spans = trace.spans
    fragment.errors = trace.errors
    fragment.start_ns = trace.start_ns
    fragment.end_ns = trace.end_ns
    fragment.has_root = trace.has_root
    fragment.span_ids = span_ids_of(s, trace)
    fragment.missing = missing(s, trace, fragment.span_ids)
    fragment.values = values_of(s, trace, texts, alive) if s.wanted.asks else ()
    fragment.facts = b""
    return fragment


cdef object scan_error_of(Scan *s, Trace *trace, bytes payload):
    cdef const char *bad = <const char *> s.base + trace.bad_id
    cdef bytes found = PyBytes_FromStringAndSize(bad, trace.bad_length)
    reason = INVALID_TRACE_ID if trace.kind == BAD_TRACE_ID else INVALID_SPAN_ID
    return ScanError(reason, bad_spans(reason, trace.spans, s.spans.used, found), payload)


cdef tuple results(Scan *s, bytes message, bytes arrived, list scan_errors, list texts):
    """The fragments of a message that was read to its end. Errors are appended to `scan_errors`."""
    cdef list found, alive = []
    cdef uint32_t number
    cdef Trace *trace = traces(s)
    cdef bytes payload
    if s.traces.used == 1 and trace.kind == GOOD:
        return (fragment_of(s, trace, message, texts, alive),)
    if s.traces.used == 0:
        scan_errors.append(ScanError(ScanErrorReason.EMPTY, "the message has no span", arrived))
        return ()
    if s.traces.used > 1 and not affordable(s):
        detail = f"its parts would take more than {MAX_SPLIT_BYTES >> 20} MiB"
        scan_errors.append(ScanError(ScanErrorReason.SPLIT_TOO_LARGE, detail, arrived))
        return ()
    found = []
    for number in range(s.traces.used):
        trace = traces(s) + number
        payload = message if s.traces.used == 1 else part_of(s, trace)
        if trace.kind == GOOD:
            found.append(fragment_of(s, trace, payload, texts, alive))
        else:
            scan_errors.append(scan_error_of(s, trace, payload))
    return tuple(found)


cdef int add_facts(tuple found, dict facts) except -1:
    """Give each fragment the facts of its trace."""
    cdef Fragment fragment
    for fragment in found:
        fragment.facts = facts[fragment.trace_id]
    return 0


cdef object error_of(Scan *s):
    """The error of a message that could not be read to its end, as a WireError."""
    if s.failure.what == NO_MEMORY:
        raise MemoryError
    what = TROUBLES[<int> s.failure.what].format(a=s.failure.a, b=s.failure.b)
    return WireError(what, s.failure.where - s.base)


cdef bint read(Scan *s, Wanted *wanted, Firsts *firsts, bytes message):
    """Read a message to its end. False after an error. The caller has to call `finish` in both cases."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(message)
    cdef bint whole
    s.base = <Pos> PyBytes_AS_STRING(message)
    s.stop = s.base + size
    s.wanted = wanted
    start(s, firsts)
    if size < WITHOUT_GIL_BYTES:
        return walk_holder(s, NONE, MESSAGE, s.base, s.base, s.base, s.stop)
    with nogil:
        whole = walk_holder(s, NONE, MESSAGE, s.base, s.base, s.base, s.stop)
    return whole


# Entry points ------------------------------------------------------------------------------------------------------


cdef int compile_keys(Keys *keys, list wanted) except -1:
    """Fill the table from (ask, key) pairs. The bytes of the keys must outlive the table."""
    cdef uint32_t slot
    cdef Key *key
    cdef bytes text
    memset(keys.slots, 0xFF, sizeof(keys.slots))  # -1
    keys.used = 0
    keys.items = <Key *> calloc(len(wanted) or 1, sizeof(Key))
    if keys.items == NULL:
        raise MemoryError
    for ask, text in wanted:
        key = keys.items + keys.used
        key.text, key.size, key.ask = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), ask
        slot = slot_of(key.text, key.size)
        key.next, keys.slots[slot] = keys.slots[slot], keys.used
        keys.used += 1
    return 0


cdef inline bint is_space(uint8_t letter) noexcept nogil:
    return letter == 0x20 or letter == 0x0A or letter == 0x0D or letter == 0x09


cdef inline bint may_be_json(Pos at, Py_ssize_t size) noexcept nogil:
    """A cheap check for a brace at the beginning, also after white space. It is False for nearly all protobuf records."""
    if at[0] == BRACE or (at[0] != 0x0A and is_space(at[0])):
        return True
    return at[0] == 0x0A and size > 1 and (at[1] == BRACE or is_space(at[1]))


cdef class Scanner:
    """Splits records by trace, and finds the values that `lookup` asks for and the facts that `program` asks for. The same as
    `reference.Scanner`, compiled."""

    def __cinit__(self, lookup=NOTHING, program=ASKS_NOTHING):
        cdef dict plain = {
            Location.NAME: PLAIN_NAME, Location.KIND: PLAIN_KIND, Location.STATUS: PLAIN_STATUS,
            Location.TRACE_STATE: PLAIN_TRACE_STATE,
        }
        cdef list asks = [
            (at, ask.location, ask.key.encode("utf-8", "surrogatepass")) for at, ask in enumerate(lookup.asks)
        ]
        self.program = program
        self.asks_facts = bool(program.asks)
        self.keys = [text for _, _, text in asks]
        self.texts = [None] * SHARED_TEXTS
        compile_keys(&self.wanted.spans, [(at, text) for at, place, text in asks if place is Location.SPAN])
        compile_keys(&self.wanted.resources, [(at, text) for at, place, text in asks if place is Location.RESOURCE])
        compile_keys(&self.wanted.scopes, [(at, text) for at, place, text in asks if place is Location.SCOPE])
        self.wanted.asks = len(asks)
        self.wanted.plain = <int *> calloc(len(asks) or 1, sizeof(int))
        if self.wanted.plain == NULL:
            raise MemoryError
        for at, place, _ in asks:
            self.wanted.plain[at] = plain.get(place, NOT_PLAIN)
            self.wanted.plain_any |= place in plain

    def __dealloc__(self):
        free(self.wanted.spans.items)
        free(self.wanted.resources.items)
        free(self.wanted.scopes.items)
        free(self.wanted.plain)

    cpdef tuple fragments(self, value, encoding, list scan_errors):
        """One fragment for each trace in a record's value, in the order of first appearance. Never raises.

        Parts that cannot be handled are appended to `scan_errors`. Every span is in exactly one fragment or ScanError.
        """
        if type(value) is bytes and encoding is not JSON and PyBytes_GET_SIZE(value) > 0:
            if encoding is PROTO or not may_be_json(<Pos> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
                return self.scan(<bytes> value, <bytes> value, scan_errors)
        message = message_of(value, encoding, scan_errors)
        return () if message is None else self.scan(message, value, scan_errors)

    cdef tuple scan(self, bytes message, bytes arrived, list scan_errors):
        cdef Scan s
        cdef Firsts firsts
        cdef tuple found
        if <uint64_t> PyBytes_GET_SIZE(message) > MOST_BYTES:
            scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, f"a message of {PyBytes_GET_SIZE(message)} bytes", arrived))
            return ()
        try:
            if read(&s, &self.wanted, &firsts, message):
                found = results(&s, message, arrived, scan_errors, self.texts)
                if self.asks_facts or s.has_states:
                    add_facts(found, facts_by_trace(self.program, message))
                return found
            scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, str(error_of(&s)), arrived))
            return ()
        finally:
            finish(&s)

    cpdef list each_span(self, bytes message):
        """The values asked for in each span of a serialized `TracesData`, in the order of the spans.

        Raises WireError for bytes that cannot be read.
        """
        cdef Scan s
        cdef Firsts firsts
        cdef list alive = []
        if <uint64_t> PyBytes_GET_SIZE(message) > MOST_BYTES:
            raise WireError(f"a message of {PyBytes_GET_SIZE(message)} bytes", 0)
        try:
            if not read(&s, &self.wanted, &firsts, message):
                raise error_of(&s)
            return values_of_each_span(&s, self.texts, alive)
        finally:
            finish(&s)


cdef void start(Scan *s, Firsts *firsts) noexcept nogil:
    set_up(&s.spans, firsts.spans, FIRST_SPANS, sizeof(Span))
    set_up(&s.traces, firsts.traces, FIRST_FEW, sizeof(Trace))
    set_up(&s.holders, firsts.holders, FIRST_FEW, sizeof(Holder))
    set_up(&s.runs, firsts.runs, FIRST_FEW, sizeof(Run))
    set_up(&s.hits, firsts.hits, FIRST_FEW, sizeof(Hit))
    s.index = NULL
    s.index_room = s.last_trace = 0
    s.has_states = False
    s.bad_traces[0] = s.bad_traces[1] = s.bad_traces[2] = NONE
    s.failure.what = NO_TROUBLE


cdef void finish(Scan *s) noexcept nogil:
    release(&s.spans)
    release(&s.traces)
    release(&s.holders)
    release(&s.runs)
    release(&s.hits)
    free(s.index)
