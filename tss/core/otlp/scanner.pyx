# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled scanner: one pass over a record's bytes, without Python objects for spans.

The pass stores in C arrays what each span adds to its trace (`Span`, `Trace`), where a split would cut (`Holder`, `Run`),
and the values that the program asks for (`Hit`). Then the results are made: a row in `Records` per trace, with the answers
to what the program asks (`answering`). For any bytes it finds the same as `reference`; only the texts of the errors
differ.

Safety: only `protobuf` moves a position, one function grows all arrays, nothing recurses on data, and groups may be nested
as deep as protobuf allows. Source of the field numbers: opentelemetry-proto, `trace/v1/trace.proto`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from tss.core.otlp.answering cimport Answering
from tss.core.otlp.found cimport (
    BAD_SPAN_ID, BAD_TRACE_ID, BYTES, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS, DURATION, END, EVENT_INDEX, FLAGS, GOOD, INT, KIND,
    MESSAGE, NAME, NAMED, NONE, ODD, PARENT_ID, RESOURCE, ROOT, SCOPE, SPAN_ID, START, STATE, STATUS_CODE, STATUS_MESSAGE,
    TEXT, TRACE_ID, TRACE_STATE, Asks, Hit, Holder, Kept, Key, Keys, Level, OfSpan, Plain, Run, Scan, Span, Text, Trace,
    TraceKind, Wanted, grow, holders, lasting, release, runs, set_up, spans, traces,
)
from tss.core.otlp.ids cimport Seed, id_at, mixed, new_seed, slot_of_id
from tss.core.otlp.parts cimport affordable, part_of
from tss.core.otlp.protobuf cimport (
    FIXED32, FIXED64, LENGTH, MAX_DEPTH, NO_MEMORY, NO_TROUBLE, VALUE_TOO_DEEP, VARINT, Pos, content, fail, fixed64, head,
    skip, varint,
)
from tss.core.otlp.records cimport Part, Records
from tss.core.otlp.values cimport (
    DEEP_BYTES, KEY_VALUE, OF_EVENT, OF_LINK, OF_RESOURCE, OF_SCOPE, OUT_OF_MEMORY, UNASKED, WITHOUT, Nested, attribute,
    candidate_of, is_too_deep, keep, keep_plain, look_up, slot_of,
)

from tss.core.conditions.formula import Place
from tss.core.conditions.program import ASKS_NOTHING
from tss.core.otlp.envelope import MAX_MESSAGE_BYTES, OPENING_BRACE, bad_spans, message_of
from tss.core.otlp.fragment import Encoding, ScanError, ScanErrorReason
from tss.core.otlp.wire import MAX_SPLIT_BYTES

cdef enum:
    # The room on the stack; records that need more use the heap. 48 spans of 72 bytes are 3.5 kB.
    FIRST_SPANS = 48
    FIRST_FEW = 8
    FIRST_HITS = 64
    # Up to this many ids, a linear search is cheaper than a hash table.
    FEW_IDS = 24
    FEW_TRACES = 8
    # From this size on the GIL is released. Beside a thread that is always busy, taking the GIL back costs up to the switch
    # interval of 5 ms, which is longer than a scan. Measured with two such threads: releasing it for records of 69 kB
    # (6 us) left the scans 1/15 of the time instead of 1/2; at 1 MB (95 us) 1/5. Only at 10 MB (1 ms) did both threads
    # together do more than one alone (1.08). Kafka's default limit for a record is 1 MB.
    WITHOUT_GIL_BYTES = 16777216
    SCHEMA_URL = 0  # in place of the tag of a field: it stands beside the resource or the scope, not in it

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
MEMO_BYTES = 24 * 131_072  # of remembered answers, for each program
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
    Hit[FIRST_HITS] hits


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


cdef struct Rare:  # fields of a span that are rarely asked for
    Text message  # of the status
    uint32_t dropped_attributes
    uint32_t dropped_events
    uint32_t dropped_links


cdef struct Seen:  # the fields of the span that is being read
    Text trace_id
    Text span_id
    Text parent_id
    Text name
    Text trace_state
    uint64_t start_ns
    uint64_t end_ns
    int32_t kind
    int32_t status
    uint32_t flags
    Rare rare  # the last one: it is cleared only if something is asked


cdef Pos read_status(Scan *s, Pos at, Pos stop, Seen *seen) noexcept nogil:
    cdef uint64_t tag = 0, value = 0
    cdef Pos end = NULL
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (3 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &value)
            seen.status = <int32_t> <uint32_t> value
        elif tag == (2 << 3 | LENGTH):
            seen.rare.message.at = content(&s.failure, at, stop, &end)
            at = end
            seen.rare.message.size = end - seen.rare.message.at
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


cdef inline bint read_part(Scan *s, uint64_t tag, Pos body, Pos end, Seen *seen, Kept *kept) noexcept nogil:
    """Note a length-delimited field of a span. False after an error."""
    cdef int32_t candidate
    if end - body > DEEP_BYTES and not is_shallow(s, tag, body, end):
        return False
    if tag == (9 << 3 | LENGTH):
        if not s.wanted.spans.keys.used:
            return True
        candidate = candidate_of(&s.wanted.spans.keys, body, end)
        return candidate == UNASKED or attribute(s, &s.wanted.spans.keys, body, end, candidate, kept)
    elif tag == (1 << 3 | LENGTH):
        seen.trace_id.at, seen.trace_id.size = body, end - body
    elif tag == (2 << 3 | LENGTH):
        seen.span_id.at, seen.span_id.size = body, end - body
    elif tag == (3 << 3 | LENGTH):
        seen.trace_state.at, seen.trace_state.size = body, end - body
    elif tag == (4 << 3 | LENGTH):
        seen.parent_id.at, seen.parent_id.size = body, end - body
    elif tag == (5 << 3 | LENGTH):
        seen.name.at, seen.name.size = body, end - body
    elif tag == (15 << 3 | LENGTH):
        return read_status(s, body, end, seen) != NULL
    return True


cdef Pos read_span(Scan *s, Pos at, Pos stop, Seen *seen, Kept *kept) noexcept nogil:
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
            if body == NULL or not read_part(s, tag, body, at, seen, kept):
                return NULL
        elif tag == (7 << 3 | FIXED64):
            at = fixed64(&s.failure, at, stop, &seen.start_ns)
        elif tag == (8 << 3 | FIXED64):
            at = fixed64(&s.failure, at, stop, &seen.end_ns)
        elif tag == (6 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &value)
            seen.kind = <int32_t> <uint32_t> value
        elif tag == (16 << 3 | FIXED32) and stop - at >= 4:
            seen.flags = <uint32_t> at[0] | <uint32_t> at[1] << 8 | <uint32_t> at[2] << 16 | <uint32_t> at[3] << 24
            at += 4
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH - 3)
    return at


cdef void read_dropped(Scan *s, Pos at, Pos stop, Seen *seen) noexcept nogil:
    """Read the counts of what a span dropped. Its fields were read before, so nothing fails here."""
    cdef uint64_t tag = 0, value = 0
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return
        if tag == (10 << 3 | VARINT) or tag == (12 << 3 | VARINT) or tag == (14 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &value)
            if tag == (10 << 3 | VARINT):
                seen.rare.dropped_attributes = value
            elif tag == (12 << 3 | VARINT):
                seen.rare.dropped_events = value
            else:
                seen.rare.dropped_links = value
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH - 3)


cdef inline void set_text(Hit *hit, Text *text) noexcept nogil:
    hit.at, hit.bits = text.at, text.size


cdef bint field_of(Seen *seen, OfSpan field, Hit *hit) noexcept nogil:
    """The value of a span's field. False if it is the one that is assumed without it: "", 0, or a parent id of zeros."""
    hit.at, hit.bits = NULL, 0
    if field == NAME:
        set_text(hit, &seen.name)
    elif field == DURATION:
        hit.bits = <uint64_t> lasting(seen.start_ns, seen.end_ns)
    elif field == STATUS_CODE:
        hit.bits = <uint64_t> <int64_t> seen.status
    elif field == KIND:
        hit.bits = <uint64_t> <int64_t> seen.kind
    elif field == PARENT_ID:
        set_text(hit, &seen.parent_id)
    elif field == STATE:
        set_text(hit, &seen.trace_state)
    elif field == FLAGS:
        hit.bits = seen.flags
    elif field == START:
        hit.bits = seen.start_ns
    elif field == END:
        hit.bits = seen.end_ns
    elif field == STATUS_MESSAGE:
        set_text(hit, &seen.rare.message)
    elif field == TRACE_ID:
        set_text(hit, &seen.trace_id)
    elif field == SPAN_ID:
        set_text(hit, &seen.span_id)
    elif field == DROPPED_ATTRIBUTES:
        hit.bits = seen.rare.dropped_attributes
    elif field == DROPPED_EVENTS:
        hit.bits = seen.rare.dropped_events
    else:
        hit.bits = seen.rare.dropped_links
    return hit.bits != 0


cdef bint keep_fields(Scan *s, Pos at, Pos stop, Seen *seen, Kept *kept) noexcept nogil:
    """Note the fields of a span that are asked for and are no attributes. False if there is no memory."""
    cdef uint32_t number
    cdef Plain *plain
    cdef Hit hit
    if s.wanted.dropped:
        read_dropped(s, at, stop, seen)
    for number in range(s.wanted.spans.plain_used):
        plain = s.wanted.spans.plain + number
        if field_of(seen, <OfSpan> plain.tag, &hit):
            hit.type = plain.type
            if not keep(s, &hit, plain.ask, kept):
                return False
    return True


cdef bint keep_state(Scan *s, Text *state, Kept *kept) noexcept nogil:
    """Note a trace state that may have an `ot` member. False if there is no memory."""
    cdef uint32_t at
    cdef Hit hit
    for at in range(state.size - 2 if state.size > 2 else 0):
        if state.at[at] == b"o" and state.at[at + 1] == b"t" and state.at[at + 2] == b"=":
            s.has_state = True
            hit.type = TEXT
            set_text(&hit, state)
            return keep(s, &hit, TRACE_STATE, kept)
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
    cdef Kept kept
    cdef Span *span
    cdef uint32_t number = s.spans.used, trace
    kept.first = kept.last = NONE
    kept.seen = 0
    memset(&seen, 0, sizeof(Seen) - sizeof(Rare))
    if s.wanted.spans.plain_used:
        memset(&seen.rare, 0, sizeof(Rare))
    if read_span(s, at, stop, &seen, &kept) == NULL:
        return False
    if s.wanted.spans.plain_used and not keep_fields(s, at, stop, &seen, &kept):
        return False
    if seen.trace_state.size and not keep_state(s, &seen.trace_state, &kept):
        return False
    trace = trace_of(s, &seen)
    if trace == NONE or (number == s.spans.room and not grow(s, &s.spans)):
        return False
    s.spans.used += 1
    span = spans(s) + number
    span.start, span.stop = start - s.base, stop - s.base
    span.scope, span.next, span.hits = scope, NONE, kept.first
    span.start_ns, span.end_ns = seen.start_ns, seen.end_ns
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
    return look_up(s, &s.wanted.resources if level == RESOURCE else &s.wanted.scopes, body, end, &holders(s)[number].hits) != OUT_OF_MEMORY


cdef bint read_schema(Scan *s, uint32_t number, Level level, Pos at, Pos stop) noexcept nogil:
    """Note the schema URL of a ResourceSpans or ScopeSpans if it is asked for. False after an error."""
    cdef Pos end = NULL
    cdef Hit hit
    hit.at = content(&s.failure, at, stop, &end)
    if end == NULL:
        return False
    hit.bits = end - hit.at
    return keep_plain(s, &s.wanted.resources if level == RESOURCE else &s.wanted.scopes, SCHEMA_URL, &hit, &holders(s)[number].hits)


cdef inline bint has_asks(Asks *asks) noexcept nogil:
    return asks.keys.used or asks.plain_used


cdef bint walk_fields(Scan *s, uint32_t number, Level level, Pos at, Pos stop) noexcept nogil:
    """Read the fields of a holder. False after an error."""
    cdef uint64_t tag = 0, down = 1 << 3 | LENGTH if level == MESSAGE else 2 << 3 | LENGTH
    cdef bint asked = level == RESOURCE and has_asks(&s.wanted.resources) or level == SCOPE and has_asks(&s.wanted.scopes)
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
        if asked and tag == (3 << 3 | LENGTH) and not read_schema(s, number, level, at, stop):
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
    holder.hits.seen = 0
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


cdef uint32_t write_missing(Scan *s, Trace *trace, const uint64_t *ids, uint64_t *out) except? 0xFFFFFFFF:
    """Write the missing parents of a trace to `out`, which has room for `trace.named`. Returns their number."""
    cdef uint64_t *table
    cdef uint64_t room
    cdef uint32_t found
    if trace.named == 0:
        return 0
    if trace.spans <= FEW_IDS:
        return few_missing(s, trace, ids, out)
    room = (<uint64_t> trace.spans + trace.named) * 2
    table = <uint64_t *> calloc(room, sizeof(uint64_t))
    if table == NULL:
        raise MemoryError
    found = many_missing(s, trace, ids, out, table, room)
    free(table)
    return found


cdef void write_span_ids(Scan *s, Trace *trace, uint64_t *out) noexcept nogil:
    cdef uint32_t at = trace.first
    while at != NONE:
        out[0] = spans(s)[at].span_id
        out += 1
        at = spans(s)[at].next


cdef inline bytes facts_of(Scan *s, Trace *trace, Answering answering):
    return answering.facts(s, trace) if answering.asks_any or s.has_state and answering.weighs else None


cdef int append(
    Records records, Scan *s, Trace *trace, bytes payload, Answering answering, Answering ruling
) except -1:
    """Append a fragment to the last record."""
    cdef Part *part = records.new_part(payload, trace.spans, trace.named)
    cdef uint64_t *ids = records.ids + part.ids
    part.id[0], part.id[1] = trace.high, trace.low
    part.start_ns, part.end_ns = trace.start_ns, trace.end_ns
    part.errors, part.has_root = trace.errors, trace.has_root
    write_span_ids(s, trace, ids)
    part.missing = write_missing(s, trace, ids, ids + trace.spans)
    records.ids_used += part.missing
    records.own(&part.facts, facts_of(s, trace, answering))
    if ruling is not None:
        records.own(&part.forced, facts_of(s, trace, ruling))
    return 0


cdef object scan_error_of(Scan *s, Trace *trace, bytes payload):
    cdef const char *bad = <const char *> s.base + trace.bad_id
    cdef bytes found = PyBytes_FromStringAndSize(bad, trace.bad_length)
    reason = INVALID_TRACE_ID if trace.kind == BAD_TRACE_ID else INVALID_SPAN_ID
    return ScanError(reason, bad_spans(reason, trace.spans, s.spans.used, found), payload)


cdef int results(
    Scan *s, bytes message, bytes arrived, Records records, list scan_errors, Answering answering, Answering ruling
) except -1:
    """Append the fragments of a message that was read to its end. Errors are appended to `scan_errors`."""
    cdef uint32_t number
    cdef Trace *trace = traces(s)
    cdef bytes payload
    if s.traces.used == 1 and trace.kind == GOOD:
        return append(records, s, trace, message, answering, ruling)
    if s.traces.used == 0:
        scan_errors.append(ScanError(ScanErrorReason.EMPTY, "the message has no span", arrived))
        return 0
    if s.traces.used > 1 and not affordable(s):
        detail = f"its parts would take more than {MAX_SPLIT_BYTES >> 20} MiB"
        scan_errors.append(ScanError(ScanErrorReason.SPLIT_TOO_LARGE, detail, arrived))
        return 0
    for number in range(s.traces.used):
        trace = traces(s) + number
        payload = message if s.traces.used == 1 else part_of(s, trace)
        if trace.kind == GOOD:
            append(records, s, trace, payload, answering, ruling)
        else:
            scan_errors.append(scan_error_of(s, trace, payload))
    return 0


cdef str error_of(Scan *s):
    """What is wrong with a message that could not be read to its end."""
    if s.failure.what == NO_MEMORY:
        raise MemoryError
    what = TROUBLES[<int> s.failure.what].format(a=s.failure.a, b=s.failure.b)
    return f"{what} at byte {s.failure.where - s.base}"


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


cdef int compile_asks(Asks *asks, place, list fields, dict plain, uint64_t tag) except -1:
    """Fill in the asks for the fields of a place. `fields` are (number, Field, key), and `plain` has (tag, Type) by name."""
    cdef list found = [(number, field.name) for number, field, _ in fields if field.place is place and field.name in plain]
    asks.tag = tag
    compile_keys(
        &asks.keys, [(number, key) for number, field, key in fields if field.place is place and field.name == "attributes"]
    )
    asks.plain = <Plain *> calloc(len(found) or 1, sizeof(Plain))
    if asks.plain == NULL:
        raise MemoryError
    for number, name in found:
        asks.plain[asks.plain_used].ask = number
        asks.plain[asks.plain_used].tag, asks.plain[asks.plain_used].type = plain[name]
        asks.plain_used += 1
    return 0


cdef void forget(Wanted *wanted) noexcept nogil:
    free(wanted.spans.keys.items)
    free(wanted.spans.plain)
    free(wanted.events.keys.items)
    free(wanted.events.plain)
    free(wanted.resources.keys.items)
    free(wanted.resources.plain)
    free(wanted.scopes.keys.items)
    free(wanted.scopes.plain)
    memset(wanted, 0, sizeof(Wanted))


cdef dict OF_A_SPAN = {
    "trace_id": (TRACE_ID, BYTES), "span_id": (SPAN_ID, BYTES), "trace_state": (STATE, TEXT), "parent_span_id": (PARENT_ID, BYTES),
    "name": (NAME, TEXT), "kind": (KIND, INT), "start_time_unix_nano": (START, INT), "end_time_unix_nano": (END, INT),
    "duration": (DURATION, INT), "dropped_attributes_count": (DROPPED_ATTRIBUTES, INT),
    "dropped_events_count": (DROPPED_EVENTS, INT), "dropped_links_count": (DROPPED_LINKS, INT),
    "status.message": (STATUS_MESSAGE, TEXT), "status.code": (STATUS_CODE, INT), "flags": (FLAGS, INT),
}
cdef dict OF_AN_EVENT = {
    "time_unix_nano": (1 << 3 | FIXED64, INT), "name": (2 << 3 | LENGTH, TEXT), "dropped_attributes_count": (4 << 3 | VARINT, INT),
    "event_index": (EVENT_INDEX, INT),
}
cdef dict OF_A_RESOURCE = {"dropped_attributes_count": (2 << 3 | VARINT, INT), "schema_url": (SCHEMA_URL, TEXT)}
cdef dict OF_A_SCOPE = {
    "name": (1 << 3 | LENGTH, TEXT), "version": (2 << 3 | LENGTH, TEXT), "dropped_attributes_count": (4 << 3 | VARINT, INT),
    "schema_url": (SCHEMA_URL, TEXT),
}


cdef class Scanner:
    """Splits records by trace, and answers a program for each trace, and a second one of the force rules. The same as
    `reference.Scanner`, compiled."""

    def __cinit__(self, program=ASKS_NOTHING, rules=None, memo_bytes=MEMO_BYTES):
        self.memo_bytes = memo_bytes
        self.answering = Answering(program, 0, True, memo_bytes)
        self.use(rules)

    cpdef use(self, rules):
        """From now on answer this program of the force rules, in place of the one before. None: there are no rules."""
        self.ruling = None if rules is None else Answering(rules, len(self.answering.fields), False, self.memo_bytes)
        self.rules = rules
        cdef list fields = [
            (number, field, field.key.encode("utf-8", "surrogatepass"))
            for number, field in enumerate((*self.answering.fields, *(() if self.ruling is None else self.ruling.fields)))
        ]
        forget(&self.wanted)
        self.keys = [key for _, _, key in fields]
        compile_asks(&self.wanted.spans, Place.SPAN, fields, OF_A_SPAN, 9 << 3 | LENGTH)
        compile_asks(&self.wanted.events, Place.EVENT, fields, OF_AN_EVENT, 3 << 3 | LENGTH)
        compile_asks(&self.wanted.resources, Place.RESOURCE, fields, OF_A_RESOURCE, 1 << 3 | LENGTH)
        compile_asks(&self.wanted.scopes, Place.SCOPE, fields, OF_A_SCOPE, 3 << 3 | LENGTH)
        self.wanted.dropped = any([
            field.place is Place.SPAN and field.name.startswith("dropped_") for _, field, _ in fields
        ])

    def __dealloc__(self):
        forget(&self.wanted)

    cpdef uint64_t held_bytes(self):
        """Memory in bytes that grows with the values seen, up to `memo_bytes` for each program."""
        return self.answering.held_bytes() + (0 if self.ruling is None else self.ruling.held_bytes())

    cpdef Records records(self):
        """An empty batch for what this scanner reads until `use` is called again."""
        return Records(self.answering.program, self.rules)

    cpdef int read(self, value, encoding, Records records, list scan_errors) except -1:
        """Append one fragment for each trace in a record's value to the last record, in the order of first appearance.

        Never raises. Parts that cannot be handled are appended to `scan_errors`. Every span is in exactly one fragment or
        ScanError.
        """
        if type(value) is bytes and encoding is not JSON and PyBytes_GET_SIZE(value) > 0:
            if encoding is PROTO or not may_be_json(<Pos> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
                return self.scan(<bytes> value, <bytes> value, records, scan_errors)
        message = message_of(value, encoding, scan_errors)
        return 0 if message is None else self.scan(message, value, records, scan_errors)

    cpdef tuple fragments(self, value, encoding, list scan_errors):
        """The fragments of one record's value as objects."""
        cdef Records records = self.records()
        records.add(0, 0, 0)
        self.read(value, encoding, records, scan_errors)
        return records.fragments(0)

    cdef int scan(self, bytes message, bytes arrived, Records records, list scan_errors) except -1:
        cdef Scan s
        cdef Firsts firsts
        if <uint64_t> PyBytes_GET_SIZE(message) > MOST_BYTES:
            scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, f"a message of {PyBytes_GET_SIZE(message)} bytes", arrived))
            return 0
        try:
            if read(&s, &self.wanted, &firsts, message):
                results(&s, message, arrived, records, scan_errors, self.answering, self.ruling)
            else:
                scan_errors.append(ScanError(ScanErrorReason.UNREADABLE, error_of(&s), arrived))
        finally:
            finish(&s)
        return 0


cdef void start(Scan *s, Firsts *firsts) noexcept nogil:
    set_up(&s.spans, firsts.spans, FIRST_SPANS, sizeof(Span))
    set_up(&s.traces, firsts.traces, FIRST_FEW, sizeof(Trace))
    set_up(&s.holders, firsts.holders, FIRST_FEW, sizeof(Holder))
    set_up(&s.runs, firsts.runs, FIRST_FEW, sizeof(Run))
    set_up(&s.hits, firsts.hits, FIRST_HITS, sizeof(Hit))
    s.index = NULL
    s.index_room = s.last_trace = 0
    s.has_state = False
    s.bad_traces[0] = s.bad_traces[1] = s.bad_traces[2] = NONE
    s.failure.what = NO_TROUBLE


cdef void finish(Scan *s) noexcept nogil:
    release(&s.spans)
    release(&s.traces)
    release(&s.holders)
    release(&s.runs)
    release(&s.hits)
    free(s.index)
