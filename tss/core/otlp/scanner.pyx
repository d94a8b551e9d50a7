# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled scanner: one pass over a record's bytes, no Python object for a span.

The pass walks the wire and leaves, in C arrays, what each span adds to its trace (`Span`, `Trace`), where a split would
cut (`Holder`, `Run`), and the looked-up attributes (`Hit`). Only then are the results made: one `Fragment` for a trace.
`reference` is the measure: whatever the bytes, both find the same; only the words of a fault differ.

Safety: a position moves forward only after a look at how many bytes are left (never by adding first), all arrays grow
by one function, nothing recurses on data, and groups nest as deep as protobuf allows. Source: protobuf's encoding
specification, and the field numbers of opentelemetry-proto, `trace/v1/trace.proto`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_1BYTE_DATA, PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from tss.core.otlp.fragment cimport Fragment

from tss.core.otlp import lookup as lookups
from tss.core.otlp.envelope import MAX_MESSAGE_BYTES, OPENING_BRACE, bad_spans, message_of
from tss.core.otlp.fragment import Encoding, Fault, FaultReason
from tss.core.otlp.lookup import NOTHING, Place
from tss.core.otlp.reference import LINEAGE_SPANS
from tss.core.otlp.wire import MAX_SPLIT_BYTES, PIECE_BYTES

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Eight bytes as they stand: ids, which are only compared. */
    static inline uint64_t tss_id(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    /* Eight bytes as protobuf means them: the lowest first, whatever the machine. */
    static inline uint64_t tss_fixed64(const uint8_t *at) {
        uint64_t value = tss_id(at);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value = __builtin_bswap64(value);
    #endif
        return value;
    }
    """
    uint64_t id_at "tss_id" (const uint8_t *at) noexcept nogil
    uint64_t fixed64_at "tss_fixed64" (const uint8_t *at) noexcept nogil

ctypedef const uint8_t *Pos  # in the message; NULL after trouble

cdef enum:
    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    GROUP = 3
    END_GROUP = 4
    FIXED32 = 5

cdef enum:
    MAX_DEPTH = 100  # of messages and groups in each other, as protobuf counts
    MAX_TAG_BYTES = 5
    MAX_VARINT_BYTES = 10
    # What stands on the stack; records with more go to the heap. 48 spans of 56 bytes are 2.7 kB.
    FIRST_SPANS = 48
    FIRST_FEW = 8
    # Up to here looking at all ids is cheaper than a hash table.
    FEW_IDS = 24
    FEW_TRACES = 8
    KEY_SLOTS = 64
    # Texts that a scanner keeps to give out again: 256 of up to 64 bytes are 30 kB.
    SHARED_TEXTS = 256
    MOST_SHARED_BYTES = 64
    # From here on others may run Python meanwhile. Beside a thread that always wants to run, taking the GIL back costs
    # up to the switch interval of 5 ms, and a scan is shorter: of the time that two such threads have together, giving
    # it up for records of 69 kB (6 us) left the scans 1/15 instead of 1/2, at 1 MB (95 us) 1/5, and only at 10 MB
    # (1 ms) did both together get more done than one alone (1.08). Kafka's own default is 1 MB at most.
    WITHOUT_GIL_BYTES = 16777216

cdef enum:
    NONE = 0xFFFFFFFF

cdef enum Kind:  # of a trace: a real one, or what is wrong with its spans' ids
    GOOD
    BAD_TRACE_ID
    BAD_SPAN_ID

cdef enum Parent:
    ROOT
    NAMED
    ODD  # of a length that no span id has

cdef enum Type:  # of a hit
    NOT_SET
    TEXT
    BOOL
    INT
    DOUBLE
    BYTES

cdef enum Plain:  # an ask for a field of the span
    NOT_PLAIN
    PLAIN_NAME
    PLAIN_KIND
    PLAIN_STATUS
    PLAIN_TRACE_STATE

cdef enum Trouble:
    NO_TROUBLE
    TOO_LONG
    CUT_OFF
    LONG_VARINT
    BAD_TAG
    FIELD_ZERO
    WIRE_TYPE
    GROUP_NOT_OPEN
    OTHER_GROUP
    GROUP_NOT_CLOSED
    TOO_DEEP
    NO_MEMORY

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
    "",
)

cdef uint64_t MOST_BYTES = MAX_MESSAGE_BYTES
cdef uint64_t SPLIT_BUDGET = MAX_SPLIT_BYTES
cdef uint64_t PIECE = PIECE_BYTES
cdef uint32_t MOST_VALUES = lookups.MAX_VALUES
cdef uint64_t MOST_LINEAGE = LINEAGE_SPANS
cdef uint8_t BRACE = OPENING_BRACE

# Seeded anew in each process as Python's own hashes are, so that nobody can choose ids that all collide.
cdef uint64_t SEED = <uint64_t> <int64_t> hash("tss.core.otlp.scanner")
cdef uint64_t SEED_ODD = <uint64_t> <int64_t> hash("tss.core.otlp.scanner, odd") | 1

cdef object JSON = Encoding.OTLP_JSON
cdef object PROTO = Encoding.OTLP_PROTO
cdef object INVALID_TRACE_ID = FaultReason.INVALID_TRACE_ID
cdef object INVALID_SPAN_ID = FaultReason.INVALID_SPAN_ID


# What the pass leaves. Positions are offsets in the message, and references are indexes: arrays move as they grow. -----


cdef struct Chain:
    uint32_t first
    uint32_t last


cdef struct Span:
    uint64_t span_id
    uint64_t parent_id
    uint32_t start  # of the field, its tag included
    uint32_t stop
    uint32_t scope
    uint32_t next  # of the same trace
    uint32_t hits  # the first of its own
    uint32_t scope_body  # in the first span of a trace in a scope: what of the scope goes with that trace, in bytes
    uint32_t resource_body  # likewise
    uint8_t parent  # Parent


cdef struct Trace:
    uint64_t high
    uint64_t low
    uint64_t start_ns
    uint64_t end_ns
    uint64_t size  # of its part of a split
    uint32_t first
    uint32_t last
    uint32_t spans
    uint32_t errors
    uint32_t named  # spans that name a parent
    uint32_t bad_id  # where the first bad id stands
    uint32_t bad_length
    uint8_t kind  # Kind
    uint8_t has_root


cdef struct Holder:  # a ResourceSpans or a ScopeSpans; or the message, around all
    uint32_t start
    uint32_t content  # after the tag
    uint32_t stop
    uint32_t within
    uint32_t first_run
    uint32_t runs
    uint32_t traces  # that have a span in it
    Chain hits
    uint64_t shared_bytes  # of the fields that go into each part
    uint64_t shared_fields


cdef struct Run:  # shared fields with nothing between them
    uint32_t start
    uint32_t stop


cdef struct Hit:  # a value that is asked for
    Pos at
    uint64_t bits  # a number's, or how many bytes there are
    uint32_t next  # of the same holder or span
    uint32_t kept  # the next that was kept for the same ask
    uint32_t ask
    uint8_t type  # Type


cdef struct Found:  # for an ask in a trace: the hits that were kept, the last first
    uint32_t last
    uint32_t values


cdef struct Array:
    void *items
    void *first  # on the stack
    uint32_t used
    uint32_t room
    uint32_t each


cdef struct Key:  # an attribute's, that is asked for
    const char *text
    uint32_t size
    uint32_t ask
    int32_t next  # in the same slot


cdef struct Keys:
    int32_t slots[KEY_SLOTS]
    Key *items
    uint32_t used


cdef struct Wanted:
    Keys spans
    Keys resources
    Keys scopes
    uint32_t asks
    int *plain  # Plain, for each ask
    bint plain_any


cdef struct Scan:
    Pos base
    Pos stop
    Wanted *wanted
    Array spans
    Array traces
    Array resources
    Array scopes
    Array resource_runs
    Array scope_runs
    Array top_runs
    Array hits
    Holder top
    uint32_t *index  # of good traces by their ids, once there are more than a few: number + 1, or 0
    uint32_t index_room
    uint32_t last_trace
    uint32_t bad_traces[3]  # by Kind
    Trouble trouble
    Pos where
    uint64_t a
    uint64_t b


cdef struct Firsts:  # room on the stack for what an ordinary record needs
    Span spans[FIRST_SPANS]
    Trace traces[FIRST_FEW]
    Holder resources[FIRST_FEW]
    Holder scopes[FIRST_FEW]
    Run resource_runs[FIRST_FEW]
    Run scope_runs[FIRST_FEW]
    Run top_runs[FIRST_FEW]
    Hit hits[FIRST_FEW]


cdef inline Pos fail(Scan *s, Trouble trouble, Pos where, uint64_t a=0, uint64_t b=0) noexcept nogil:
    s.trouble, s.where, s.a, s.b = trouble, where, a, b
    return NULL


cdef inline void set_up(Array *array, void *first, uint32_t room, uint32_t each) noexcept nogil:
    array.items = array.first = first
    array.used, array.room, array.each = 0, room, each


cdef bint grow(Scan *s, Array *array) noexcept nogil:
    """Make room for one more. False, with the trouble set, if there is no memory."""
    cdef uint32_t room = array.room * 2
    cdef void *items = realloc(NULL if array.items == array.first else array.items, <size_t> room * array.each)
    if items == NULL:
        fail(s, NO_MEMORY, s.base)
        return False
    if array.items == array.first:
        memcpy(items, array.first, <size_t> array.used * array.each)
    array.items, array.room = items, room
    return True


cdef inline void release(Array *array) noexcept nogil:
    if array.items != array.first:
        free(array.items)


cdef inline Span *spans(Scan *s) noexcept nogil:
    return <Span *> s.spans.items


cdef inline Trace *traces(Scan *s) noexcept nogil:
    return <Trace *> s.traces.items


cdef inline Holder *resources(Scan *s) noexcept nogil:
    return <Holder *> s.resources.items


cdef inline Holder *scopes(Scan *s) noexcept nogil:
    return <Holder *> s.scopes.items


cdef inline Hit *hits(Scan *s) noexcept nogil:
    return <Hit *> s.hits.items


# The wire: each function goes from a place before `stop` to the place after what it read, or to NULL. -------------------


cdef Pos varint(Scan *s, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    cdef uint64_t total = 0
    cdef int number
    for number in range(MAX_VARINT_BYTES):
        if at + number == stop:
            return fail(s, CUT_OFF, at)
        total |= <uint64_t> (at[number] & 0x7F) << 7 * number  # of the tenth byte one bit counts, as in protobuf
        if at[number] < 0x80:
            value[0] = total
            return at + number + 1
    return fail(s, LONG_VARINT, at)


cdef Pos long_head(Scan *s, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    """A tag or a length: a varint of up to five bytes and 32 bits."""
    cdef Pos after = varint(s, at, stop, value)
    if after != NULL and (after - at > MAX_TAG_BYTES or value[0] > 0xFFFFFFFFu):
        return fail(s, BAD_TAG, at)
    return after


cdef inline Pos head(Scan *s, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    """As `long_head`; `at` is before `stop`. One or two bytes are nearly all there are."""
    if at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    if stop - at > 1 and at[1] < 0x80:
        value[0] = at[0] & 0x7F | <uint64_t> at[1] << 7
        return at + 2
    return long_head(s, at, stop, value)


cdef inline Pos content(Scan *s, Pos at, Pos stop, Pos *end) noexcept nogil:
    """The start of a length-delimited field's content after its length at `at`; `end` is where it ends."""
    cdef uint64_t size = 0
    cdef Pos body
    if at == stop:
        return fail(s, CUT_OFF, at)
    body = head(s, at, stop, &size)
    if body == NULL:
        return NULL
    if size > <uint64_t> (stop - body):
        return fail(s, TOO_LONG, at, size, size - <uint64_t> (stop - body))
    end[0] = body + size
    return body


cdef Pos skip_plain(Scan *s, Pos at, Pos stop, uint32_t kind) noexcept nogil:
    """Past a field's content that is no group."""
    cdef uint64_t ignored
    cdef Pos end = NULL
    if kind == LENGTH:
        return NULL if content(s, at, stop, &end) == NULL else end
    if kind == VARINT:
        return varint(s, at, stop, &ignored)
    if kind == FIXED64:
        return at + 8 if stop - at >= 8 else fail(s, CUT_OFF, at)
    if kind == FIXED32:
        return at + 4 if stop - at >= 4 else fail(s, CUT_OFF, at)
    if kind == END_GROUP:
        return fail(s, GROUP_NOT_OPEN, at)
    return fail(s, WIRE_TYPE, at, kind)


cdef Pos skip_group(Scan *s, Pos at, Pos stop, uint32_t tag, int depth) noexcept nogil:
    """Past a group, whose start `tag` was read. Its fields may be numbered 0: protobuf does not look."""
    cdef uint32_t[MAX_DEPTH] numbers
    cdef int open_groups = 0
    cdef uint64_t inner = tag
    cdef Pos start = at
    while True:
        if inner & 7 == GROUP:
            if open_groups == depth:
                return fail(s, TOO_DEEP, at)
            numbers[open_groups] = inner >> 3
            open_groups += 1
        elif inner & 7 == END_GROUP:
            if numbers[open_groups - 1] != inner >> 3:
                return fail(s, OTHER_GROUP, at)
            open_groups -= 1
            if open_groups == 0:
                return at
        else:
            at = skip_plain(s, at, stop, inner & 7)
            if at == NULL:
                return NULL
        if at == stop:
            return fail(s, GROUP_NOT_CLOSED, start)
        at = head(s, at, stop, &inner)
        if at == NULL:
            return NULL


cdef Pos skip(Scan *s, Pos at, Pos stop, uint64_t tag, int depth) noexcept nogil:
    """Past an unknown field, whose tag was read. `depth` is how many groups may be in each other here."""
    if tag < 8:
        return fail(s, FIELD_ZERO, at)
    if tag & 7 == GROUP:
        return skip_group(s, at, stop, tag, depth)
    return skip_plain(s, at, stop, tag & 7)


# Attributes ---------------------------------------------------------------------------------------------------------


cdef inline uint32_t slot_of(const char *text, uint32_t size) noexcept nogil:
    # Among the keys of one service the length and the last letter tell nearly all apart, and cost nothing to compute.
    return (size * 7 + (<uint8_t> text[size - 1] if size else 0)) % KEY_SLOTS


cdef Pos any_value(Scan *s, Pos at, Pos stop, Hit *hit) noexcept nogil:
    """Past an AnyValue: the last field of its oneof is the value."""
    cdef uint64_t tag = 0, value = 0
    cdef Pos body, end = NULL
    while at < stop:
        at = head(s, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (1 << 3 | LENGTH) or tag == (5 << 3 | LENGTH) or tag == (6 << 3 | LENGTH) or tag == (7 << 3 | LENGTH):
            body = content(s, at, stop, &end)
            if body == NULL:
                return NULL
            hit.type = TEXT if tag == (1 << 3 | LENGTH) else BYTES
            hit.at, hit.bits = body, end - body
            at = end
        elif tag == (2 << 3 | VARINT) or tag == (3 << 3 | VARINT):
            at = varint(s, at, stop, &value)
            if at == NULL:
                return NULL
            if tag == (2 << 3 | VARINT):
                hit.type, hit.bits = BOOL, value != 0
            else:
                hit.type, hit.bits = INT, value
        elif tag == (4 << 3 | FIXED64):
            if stop - at < 8:
                return fail(s, CUT_OFF, at)
            hit.type, hit.bits = DOUBLE, fixed64_at(at)
            at += 8
        else:
            at = skip(s, at, stop, tag, MAX_DEPTH - 1)
            if at == NULL:
                return NULL
    return at


cdef Pos key_value(Scan *s, Pos at, Pos stop, Pos *key, Pos *key_end, Hit *hit) noexcept nogil:
    """Past a KeyValue. A key given twice counts as the last, a value given twice as both in one."""
    cdef uint64_t tag = 0
    cdef Pos body, end = NULL
    while at < stop:
        at = head(s, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (1 << 3 | LENGTH):
            key[0] = content(s, at, stop, key_end)
            if key[0] == NULL:
                return NULL
            at = key_end[0]
        elif tag == (2 << 3 | LENGTH):
            body = content(s, at, stop, &end)
            if body == NULL or any_value(s, body, end, hit) == NULL:
                return NULL
            at = end
        else:
            at = skip(s, at, stop, tag, MAX_DEPTH)
            if at == NULL:
                return NULL
    return at


cdef bint keep(Scan *s, Hit *hit, uint32_t ask, Chain *chain) noexcept nogil:
    """Put a copy of `hit` at the end of a chain. False: no memory."""
    cdef uint32_t number = s.hits.used
    if number == s.hits.room and not grow(s, &s.hits):
        return False
    s.hits.used += 1
    hit.ask, hit.next, hit.kept = ask, NONE, NONE
    hits(s)[number] = hit[0]
    if chain.first == NONE:
        chain.first = number
    else:
        hits(s)[chain.last].next = number
    chain.last = number
    return True


cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, Chain *chain) noexcept nogil:
    """Look an attribute up; its value goes into the chain. False: no memory."""
    cdef Hit hit
    cdef Pos key = NULL, key_end = NULL
    cdef uint32_t size
    cdef int32_t candidate
    hit.type = NOT_SET
    hit.at = NULL
    hit.bits = 0
    if key_value(s, at, stop, &key, &key_end, &hit) == NULL:
        s.trouble = NO_TROUBLE  # one that cannot be parsed has no value, and is none of the record's business
        return True
    if hit.type == NOT_SET:
        return True
    size = key_end - key
    candidate = keys.slots[slot_of(<const char *> key, size)]
    while candidate >= 0:
        if keys.items[candidate].size == size and (size == 0 or memcmp(keys.items[candidate].text, key, size) == 0):
            if not keep(s, &hit, keys.items[candidate].ask, chain):
                return False
        candidate = keys.items[candidate].next
    return True


cdef bint attributes(Scan *s, Keys *keys, uint64_t wanted, Pos at, Pos stop, Chain *chain) noexcept nogil:
    """Look up all attributes, tagged `wanted`, of a resource or scope; if it can be parsed. False: no memory."""
    cdef Pos start = at, body, end = NULL
    cdef uint64_t tag = 0
    cdef bint sound = False
    while True:  # once to see whether it is sound, then once more
        at = start
        while at < stop:
            at = head(s, at, stop, &tag)
            if at != NULL and tag == wanted:
                body = content(s, at, stop, &end)
                if sound and not attribute(s, keys, body, end, chain):
                    return False
                at = NULL if body == NULL else end
            elif at != NULL:
                at = skip(s, at, stop, tag, MAX_DEPTH)
            if at == NULL:
                s.trouble = NO_TROUBLE
                return True
        if sound:
            return True
        sound = True


# Traces -------------------------------------------------------------------------------------------------------------


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """A hash in which each bit of the value, and of the process's seed, counts for all upper bits."""
    value = (value ^ SEED) * SEED_ODD
    value = (value ^ value >> 32) * 0x9E3779B97F4A7C15u
    return (value ^ value >> 29) * SEED_ODD


cdef inline bint is_trace(Trace *trace, uint64_t high, uint64_t low) noexcept nogil:
    return trace.high == high and trace.low == low and trace.kind == GOOD


cdef bint index_traces(Scan *s) noexcept nogil:
    """Enter all traces in an index that is at most half full. False: no memory."""
    cdef uint32_t room = s.traces.used * 4, number, slot
    free(s.index)
    s.index = <uint32_t *> calloc(room, sizeof(uint32_t))
    if s.index == NULL:
        fail(s, NO_MEMORY, s.base)
        return False
    s.index_room = room
    for number in range(s.traces.used):
        if traces(s)[number].kind == GOOD:
            slot = slot_for(s, traces(s)[number].high, traces(s)[number].low)
            s.index[slot] = number + 1
    return True


cdef uint32_t slot_for(Scan *s, uint64_t high, uint64_t low) noexcept nogil:
    """The slot in the index that has this trace, or would have it."""
    cdef uint32_t slot = (mixed(mixed(high) ^ low) >> 32) * s.index_room >> 32
    while s.index[slot] and not is_trace(traces(s) + (s.index[slot] - 1), high, low):
        slot += 1
        if slot == s.index_room:
            slot = 0
    return slot


cdef bint new_trace(Scan *s, Kind kind, uint64_t high, uint64_t low) noexcept nogil:
    """Append one, without spans. False: no memory."""
    cdef Trace *trace
    if s.traces.used == s.traces.room and not grow(s, &s.traces):
        return False
    trace = traces(s) + s.traces.used
    s.traces.used += 1
    memset(trace, 0, sizeof(Trace))
    trace.high, trace.low, trace.kind, trace.first = high, low, kind, NONE
    return True


cdef uint32_t good_trace(Scan *s, uint64_t high, uint64_t low) noexcept nogil:
    """The number of the trace with this id, new if need be; NONE if there is no memory."""
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


cdef uint32_t bad_trace(Scan *s, Kind kind, Pos found, uint32_t size) noexcept nogil:
    """The number of what stands for all spans of this kind; `found` is the bad id. NONE if there is no memory."""
    cdef uint32_t number = s.bad_traces[<int> kind]
    if number == NONE:
        number = s.traces.used
        if not new_trace(s, kind, 0, 0):
            return NONE
        traces(s)[number].bad_id = found - s.base if size else 0
        traces(s)[number].bad_length = size
        s.bad_traces[<int> kind] = number
    return number


# The pass -----------------------------------------------------------------------------------------------------------


cdef struct Seen:  # the fields of a span while it is read
    Pos trace_id
    Pos span_id
    Pos parent_id
    Pos name
    Pos trace_state
    uint32_t trace_id_size
    uint32_t span_id_size
    uint32_t parent_id_size
    uint32_t name_size
    uint32_t trace_state_size
    int32_t kind
    int32_t status
    uint64_t start_ns
    uint64_t end_ns


cdef Pos read_status(Scan *s, Pos at, Pos stop, Seen *seen) noexcept nogil:
    cdef uint64_t tag = 0, value = 0
    while at < stop:
        at = head(s, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (3 << 3 | VARINT):
            at = varint(s, at, stop, &value)
            seen.status = <int32_t> <uint32_t> value
        else:
            at = skip(s, at, stop, tag, MAX_DEPTH - 4)
        if at == NULL:
            return NULL
    return at


cdef Pos read_span(Scan *s, Pos at, Pos stop, Seen *seen, Chain *chain) noexcept nogil:
    """Past a span's fields. Of a field given twice the last counts, of a status both."""
    cdef uint64_t tag = 0, value = 0
    cdef Pos body, end = NULL
    while at < stop:
        at = head(s, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag & 7 == LENGTH:
            if tag < 8:
                return fail(s, FIELD_ZERO, at)
            body = content(s, at, stop, &end)
            if body == NULL:
                return NULL
            at = end
            if tag == (9 << 3 | LENGTH):
                if s.wanted.spans.used and not attribute(s, &s.wanted.spans, body, end, chain):
                    return NULL
            elif tag == (1 << 3 | LENGTH):
                seen.trace_id, seen.trace_id_size = body, end - body
            elif tag == (2 << 3 | LENGTH):
                seen.span_id, seen.span_id_size = body, end - body
            elif tag == (3 << 3 | LENGTH):
                seen.trace_state, seen.trace_state_size = body, end - body
            elif tag == (4 << 3 | LENGTH):
                seen.parent_id, seen.parent_id_size = body, end - body
            elif tag == (5 << 3 | LENGTH):
                seen.name, seen.name_size = body, end - body
            elif tag == (15 << 3 | LENGTH):
                if read_status(s, body, end, seen) == NULL:
                    return NULL
        elif tag == (7 << 3 | FIXED64) or tag == (8 << 3 | FIXED64):
            if stop - at < 8:
                return fail(s, CUT_OFF, at)
            if tag == (7 << 3 | FIXED64):
                seen.start_ns = fixed64_at(at)
            else:
                seen.end_ns = fixed64_at(at)
            at += 8
        elif tag == (6 << 3 | VARINT):
            at = varint(s, at, stop, &value)
            if at == NULL:
                return NULL
            seen.kind = <int32_t> <uint32_t> value
        else:
            at = skip(s, at, stop, tag, MAX_DEPTH - 3)
            if at == NULL:
                return NULL
    return at


cdef bint keep_plain(Scan *s, Seen *seen, Chain *chain) noexcept nogil:
    """What is asked for of a span's fields. False: no memory."""
    cdef uint32_t ask
    cdef Hit hit
    for ask in range(s.wanted.asks):
        if s.wanted.plain[ask] == PLAIN_NAME:
            hit.type, hit.at, hit.bits = TEXT, seen.name, seen.name_size
        elif s.wanted.plain[ask] == PLAIN_TRACE_STATE:
            hit.type, hit.at, hit.bits = TEXT, seen.trace_state, seen.trace_state_size
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
    """The number of the trace that a span belongs to, or of what is wrong with its ids; NONE if there is no memory."""
    cdef uint64_t high, low
    if seen.trace_id_size != 16:
        return bad_trace(s, BAD_TRACE_ID, seen.trace_id, seen.trace_id_size)
    high, low = id_at(seen.trace_id), id_at(seen.trace_id + 8)
    if not (high | low):
        return bad_trace(s, BAD_TRACE_ID, seen.trace_id, seen.trace_id_size)
    if seen.span_id_size != 8 or not id_at(seen.span_id):
        return bad_trace(s, BAD_SPAN_ID, seen.span_id, seen.span_id_size)
    return good_trace(s, high, low)


cdef inline void enter(Scan *s, uint32_t number, Span *span, uint32_t trace_number, Seen *seen) noexcept nogil:
    """Add a span to its trace's summary."""
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
    span.parent_id = id_at(seen.parent_id) if seen.parent_id_size == 8 else 0
    if span.parent_id:
        span.parent = NAMED
    elif seen.parent_id_size == 0 or seen.parent_id_size == 8:
        span.parent = ROOT
    else:
        span.parent = ODD
    trace.has_root |= span.parent == ROOT
    trace.named += span.parent != ROOT
    span.span_id = id_at(seen.span_id) if trace.kind == GOOD else 0


cdef bint walk_span(Scan *s, Pos start, Pos at, Pos stop, uint32_t scope) noexcept nogil:
    """Read one span, whose field starts at `start`. False after trouble."""
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


cdef inline void open_holder(
    Scan *s, Holder *holder, Pos start, Pos content, Pos stop, uint32_t within, uint32_t first_run
) noexcept nogil:
    holder.start, holder.content, holder.stop = start - s.base, content - s.base, stop - s.base
    holder.within, holder.first_run, holder.runs, holder.traces = within, first_run, 0, 0
    holder.hits.first = holder.hits.last = NONE
    holder.shared_bytes = holder.shared_fields = 0


cdef bint share(Scan *s, Holder *holder, Array *array, Pos start, Pos stop) noexcept nogil:
    """Note a field that goes into each part of its holder. False: no memory."""
    cdef Run *runs = <Run *> array.items
    holder.shared_bytes += stop - start
    holder.shared_fields += 1
    if holder.runs and runs[array.used - 1].stop == start - s.base:
        runs[array.used - 1].stop = stop - s.base
        return True
    if array.used == array.room and not grow(s, array):
        return False
    runs = <Run *> array.items
    runs[array.used].start, runs[array.used].stop = start - s.base, stop - s.base
    array.used += 1
    holder.runs += 1
    return True


cdef bint walk_scope(Scan *s, Pos start, Pos body, Pos stop, Pos content_at, uint32_t resource) noexcept nogil:
    """Read one ScopeSpans. False after trouble."""
    cdef uint32_t number = s.scopes.used, spans_before = s.spans.used, hits_before = s.hits.used
    cdef uint64_t tag = 0
    cdef Pos at = body, field, inner, end = NULL
    cdef Holder *scope
    if number == s.scopes.room and not grow(s, &s.scopes):
        return False
    s.scopes.used += 1
    scope = scopes(s) + number  # stays: a scope holds no scopes
    open_holder(s, scope, start, content_at, stop, resource, s.scope_runs.used)
    while at < stop:
        field = at
        at = head(s, at, stop, &tag)
        if at == NULL:
            return False
        if tag == (2 << 3 | LENGTH):
            inner = content(s, at, stop, &end)
            if inner == NULL or not walk_span(s, field, inner, end, number):
                return False
            at = end
            continue
        if tag == (1 << 3 | LENGTH) and s.wanted.scopes.used:
            inner = content(s, at, stop, &end)
            if inner == NULL or not attributes(s, &s.wanted.scopes, 3 << 3 | LENGTH, inner, end, &scope.hits):
                return False
        at = skip(s, at, stop, tag, MAX_DEPTH - 2)
        if at == NULL or not share(s, scope, &s.scope_runs, field, at):
            return False
    if s.spans.used == spans_before:  # then it belongs to no trace
        s.scopes.used, s.scope_runs.used, s.hits.used = number, scope.first_run, hits_before
    return True


cdef bint walk_resource(Scan *s, Pos start, Pos body, Pos stop, Pos content_at) noexcept nogil:
    """Read one ResourceSpans. False after trouble."""
    cdef uint32_t number = s.resources.used, spans_before = s.spans.used, hits_before = s.hits.used
    cdef uint64_t tag = 0
    cdef Pos at = body, field, inner, after, end = NULL
    cdef Holder *resource
    if number == s.resources.room and not grow(s, &s.resources):
        return False
    s.resources.used += 1
    resource = resources(s) + number  # stays, likewise
    open_holder(s, resource, start, content_at, stop, NONE, s.resource_runs.used)
    while at < stop:
        field = at
        at = head(s, at, stop, &tag)
        if at == NULL:
            return False
        if tag == (2 << 3 | LENGTH):
            inner = content(s, at, stop, &end)
            if inner == NULL or not walk_scope(s, field, inner, end, at, number):
                return False
            at = end
            continue
        if tag == (1 << 3 | LENGTH) and s.wanted.resources.used:
            inner = content(s, at, stop, &end)
            if inner == NULL or not attributes(s, &s.wanted.resources, 1 << 3 | LENGTH, inner, end, &resource.hits):
                return False
        at = skip(s, at, stop, tag, MAX_DEPTH - 1)
        if at == NULL or not share(s, resource, &s.resource_runs, field, at):
            return False
    if s.spans.used == spans_before:
        s.resources.used, s.resource_runs.used, s.hits.used = number, resource.first_run, hits_before
    return True


cdef bint walk_message(Scan *s) noexcept nogil:
    """Read it all. False after trouble."""
    cdef uint64_t tag = 0
    cdef Pos at = s.base, field, inner, end = NULL
    open_holder(s, &s.top, s.base, s.base, s.stop, NONE, 0)
    while at < s.stop:
        field = at
        at = head(s, at, s.stop, &tag)
        if at == NULL:
            return False
        if tag == (1 << 3 | LENGTH):
            inner = content(s, at, s.stop, &end)
            if inner == NULL or not walk_resource(s, field, inner, end, at):
                return False
            at = end
        else:
            at = skip(s, at, s.stop, tag, MAX_DEPTH)
            if at == NULL or not share(s, &s.top, &s.top_runs, field, at):
                return False
    return True


# Splitting, as `wire.split` does it ---------------------------------------------------------------------------------


cdef inline uint32_t varint_size(uint32_t value) noexcept nogil:
    cdef uint32_t size = 1
    while value > 0x7F:
        value >>= 7
        size += 1
    return size


cdef inline uint8_t *write_varint(uint8_t *out, uint32_t value) noexcept nogil:
    while value > 0x7F:
        out[0] = value & 0x7F | 0x80
        out += 1
        value >>= 7
    out[0] = value
    return out + 1


cdef inline uint64_t piece_size(Holder *holder, uint32_t body) noexcept nogil:
    """Of one trace's part of a holder: all of it, if there is no other trace in it."""
    if holder.traces == 1:
        return holder.stop - holder.start
    return holder.content - holder.start + varint_size(body) + body


cdef inline uint64_t shared_cost(Holder *holder) noexcept nogil:
    return holder.shared_bytes + PIECE * (holder.shared_fields + 1)


cdef void count_traces(Scan *s) noexcept nogil:
    """How many traces each holder has."""
    cdef uint32_t number, at, scope, resource
    cdef Span *span
    for number in range(s.traces.used):
        scope = resource = NONE
        at = traces(s)[number].first
        while at != NONE:
            span = spans(s) + at
            if span.scope != scope:
                scope = span.scope
                scopes(s)[scope].traces += 1
                if scopes(s)[scope].within != resource:
                    resource = scopes(s)[scope].within
                    resources(s)[resource].traces += 1
            at = span.next


cdef uint64_t measure_scope(Scan *s, uint32_t *at, uint64_t *body) noexcept nogil:
    """Measure a trace's part of a scope, from its first span there; `body` is the resource's, which grows."""
    cdef uint32_t first = at[0], number = spans(s)[first].scope, size
    cdef Holder *scope = scopes(s) + number
    cdef uint64_t own = scope.shared_bytes, cost = shared_cost(scope)
    while at[0] != NONE and spans(s)[at[0]].scope == number:
        size = spans(s)[at[0]].stop - spans(s)[at[0]].start
        own += size
        cost += size + PIECE
        at[0] = spans(s)[at[0]].next
    spans(s)[first].scope_body = own
    size = piece_size(scope, own)
    body[0] += size
    return cost + size + PIECE


cdef uint64_t measure(Scan *s, Trace *trace) noexcept nogil:
    """How large each piece of a trace's part is. Gives its cost as `wire` counts it."""
    cdef uint32_t at = trace.first, first, number
    cdef uint64_t cost = shared_cost(&s.top), body, size
    cdef Holder *resource
    trace.size = s.top.shared_bytes
    while at != NONE:
        first, number = at, scopes(s)[spans(s)[at].scope].within
        resource = resources(s) + number
        body = resource.shared_bytes
        cost += shared_cost(resource)
        while at != NONE and scopes(s)[spans(s)[at].scope].within == number:
            cost += measure_scope(s, &at, &body)
        spans(s)[first].resource_body = body
        size = piece_size(resource, body)
        trace.size += size
        cost += size + PIECE
    return cost


cdef bint affordable(Scan *s) noexcept nogil:
    """Measure all parts; whether they are within `wire.MAX_SPLIT_BYTES`."""
    cdef uint32_t number
    cdef uint64_t cost = 0
    count_traces(s)
    for number in range(s.traces.used):
        cost += measure(s, traces(s) + number)
    return cost <= SPLIT_BUDGET


cdef inline uint8_t *copy(Scan *s, uint8_t *out, uint32_t start, uint32_t stop) noexcept nogil:
    memcpy(out, s.base + start, stop - start)
    return out + (stop - start)


cdef inline uint8_t *copy_shared(
    Scan *s, uint8_t *out, Array *array, Holder *holder, uint32_t *done, uint32_t before
) noexcept nogil:
    """Write what is shared and stands before a position, from the run number `done` of the holder on."""
    cdef Run *runs = <Run *> array.items + holder.first_run
    while done[0] < holder.runs and runs[done[0]].start < before:
        out = copy(s, out, runs[done[0]].start, runs[done[0]].stop)
        done[0] += 1
    return out


cdef uint8_t *write_scope(Scan *s, uint8_t *out, uint32_t *at) noexcept nogil:
    cdef Span *span = spans(s) + at[0]
    cdef uint32_t number = span.scope, done = 0
    cdef Holder *scope = scopes(s) + number
    cdef bint whole = scope.traces == 1
    if whole:
        out = copy(s, out, scope.start, scope.stop)
    else:
        out = write_varint(copy(s, out, scope.start, scope.content), span.scope_body)
    while at[0] != NONE and spans(s)[at[0]].scope == number:
        span = spans(s) + at[0]
        if not whole:
            out = copy_shared(s, out, &s.scope_runs, scope, &done, span.start)
            out = copy(s, out, span.start, span.stop)
        at[0] = span.next
    return out if whole else copy_shared(s, out, &s.scope_runs, scope, &done, scope.stop)


cdef uint8_t *write_resource(Scan *s, uint8_t *out, uint32_t *at) noexcept nogil:
    cdef uint32_t number = scopes(s)[spans(s)[at[0]].scope].within, done = 0
    cdef Holder *resource = resources(s) + number
    cdef bint whole = resource.traces == 1
    if whole:
        out = copy(s, out, resource.start, resource.stop)
    else:
        out = write_varint(copy(s, out, resource.start, resource.content), spans(s)[at[0]].resource_body)
    while at[0] != NONE and scopes(s)[spans(s)[at[0]].scope].within == number:
        if whole:
            at[0] = spans(s)[at[0]].next
        else:
            out = copy_shared(s, out, &s.resource_runs, resource, &done, scopes(s)[spans(s)[at[0]].scope].start)
            out = write_scope(s, out, at)
    return out if whole else copy_shared(s, out, &s.resource_runs, resource, &done, resource.stop)


cdef bytes part_of(Scan *s, Trace *trace):
    """The message with one trace's spans only."""
    cdef bytes part = PyBytes_FromStringAndSize(NULL, trace.size)
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(part)
    cdef uint8_t *end = out + trace.size
    cdef uint32_t at = trace.first, done = 0
    while at != NONE:
        out = copy_shared(
            s, out, &s.top_runs, &s.top, &done, resources(s)[scopes(s)[spans(s)[at].scope].within].start
        )
        out = write_resource(s, out, &at)
    out = copy_shared(s, out, &s.top_runs, &s.top, &done, s.top.stop)
    if out != end:
        raise AssertionError(f"a part of {end - out} bytes fewer than measured")  # law 6
    return part


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
    """Put the parents that are not among the ids of a trace of few spans into `out`; how many."""
    cdef uint32_t at = trace.first, found = 0
    cdef Span *span
    while at != NONE:
        span = spans(s) + at
        if span.parent != ROOT and (span.parent == ODD or not among(span.parent_id, ids, trace.spans)):
            if not among(span.parent_id, out, found):
                out[found] = span.parent_id  # of an odd one 0
                found += 1
        at = span.next
    return found


cdef inline bint enter_id(uint64_t *table, uint64_t room, uint64_t id) noexcept nogil:
    """Whether this id, which is not 0, was new to the table."""
    cdef uint64_t slot = (mixed(id) >> 32) * room >> 32
    while table[slot]:
        if table[slot] == id:
            return False
        slot += 1
        if slot == room:
            slot = 0
    table[slot] = id
    return True


cdef uint32_t many_missing(
    Scan *s, Trace *trace, const uint64_t *ids, uint64_t *out, uint64_t *table, uint64_t room
) noexcept nogil:
    """As `few_missing`, with a table of zeros at least twice as large as there are ids and parents."""
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


cdef object text_of(Hit *hit, list texts):
    """A text that is UTF-8. Most come again and again, so that one object for many traces saves time and memory."""
    cdef const char *start = <const char *> hit.at
    cdef Py_ssize_t size = hit.bits
    cdef uint32_t slot
    if size == 0:
        return ""
    if size > MOST_SHARED_BYTES or not ascii(hit.at, size):
        return PyUnicode_DecodeUTF8(start, size, NULL)
    slot = (size * 31 + hit.at[0] * 7 + hit.at[size - 1] * 3 + hit.at[size // 2]) % SHARED_TEXTS
    known = texts[slot]
    if known is None or PyUnicode_GET_LENGTH(known) != size or memcmp(PyUnicode_1BYTE_DATA(known), start, size) != 0:
        known = texts[slot] = PyUnicode_DecodeASCII(start, size, NULL)
    return known


cdef object value_of(Hit *hit, list texts):
    cdef double number
    if hit.type == TEXT:
        return text_of(hit, texts)
    if hit.type == BYTES:
        return PyBytes_FromStringAndSize(<const char *> hit.at, hit.bits)
    if hit.type == BOOL:
        return hit.bits != 0
    if hit.type == INT:
        return <int64_t> hit.bits
    memcpy(&number, &hit.bits, 8)
    return number


cdef inline bint ascii(Pos at, Py_ssize_t size) noexcept nogil:
    cdef uint8_t seen = 0
    cdef Py_ssize_t number
    for number in range(size):
        seen |= at[number]
    return seen < 0x80


cdef inline bint same(Hit *one, Hit *two) noexcept nogil:
    if one.type != two.type or one.bits != two.bits:
        return False
    if one.type != TEXT and one.type != BYTES:
        return True
    return one.bits == 0 or memcmp(one.at, two.at, one.bits) == 0


cdef inline bint is_kept(Scan *s, Hit *hit, uint32_t kept) noexcept nogil:
    while kept != NONE:
        if same(hit, hits(s) + kept):
            return True
        kept = hits(s)[kept].kept
    return False


cdef object mended(Hit *hit):
    """Let a text that is not UTF-8 be what it is read as; the bytes object returned has it."""
    cdef bytes text = PyUnicode_DecodeUTF8(<const char *> hit.at, hit.bits, "replace").encode()
    hit.at, hit.bits = <Pos> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
    return text


cdef int take(Scan *s, uint32_t at, Found *found, list alive) except -1:
    """Keep of a chain of hits those whose values are new."""
    cdef Hit *hit
    cdef Found *mine
    while at != NONE:
        hit = hits(s) + at
        mine = found + hit.ask
        if mine.values < MOST_VALUES and not is_kept(s, hit, mine.last):
            if hit.type == TEXT and not ascii(hit.at, hit.bits):
                alive.append(mended(hit))
                if is_kept(s, hit, mine.last):
                    at = hit.next
                    continue
            hit.kept = mine.last
            mine.last = at
            mine.values += 1
        at = hit.next
    return 0


cdef tuple values_of_ask(Scan *s, Found *found, list texts):
    cdef tuple values
    cdef uint32_t at = found.last
    cdef Py_ssize_t number = found.values
    if number == 0:
        return ()
    values = PyTuple_New(number)
    while at != NONE:  # from the last to the first
        number -= 1
        value = value_of(hits(s) + at, texts)
        Py_INCREF(value)  # of which SET_ITEM takes one
        PyTuple_SET_ITEM(values, number, value)
        at = hits(s)[at].kept
    return values


cdef tuple values_of(Scan *s, Trace *trace, list texts, list alive):
    """The values asked for. `alive` gets what hits were made to point to, and must outlive them."""
    cdef Found[FIRST_FEW] few
    cdef Found *found = few
    cdef uint32_t number
    if s.wanted.asks > FIRST_FEW:
        found = <Found *> malloc(s.wanted.asks * sizeof(Found))
        if found == NULL:
            raise MemoryError
    try:
        for number in range(s.wanted.asks):
            found[number].last, found[number].values = NONE, 0
        take_all(s, trace, found, alive)
        return tuple([values_of_ask(s, found + number, texts) for number in range(s.wanted.asks)])
    finally:
        if found != few:
            free(found)


cdef int take_all(Scan *s, Trace *trace, Found *found, list alive) except -1:
    """For each span what its resource has, what its scope has, and its own; the first two only once."""
    cdef uint32_t at = trace.first, scope = NONE, resource = NONE
    while at != NONE:
        if spans(s)[at].scope != scope:
            scope = spans(s)[at].scope
            if scopes(s)[scope].within != resource:
                resource = scopes(s)[scope].within
                take(s, resources(s)[resource].hits.first, found, alive)
            take(s, scopes(s)[scope].hits.first, found, alive)
        take(s, spans(s)[at].hits, found, alive)
        at = spans(s)[at].next
    return 0


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
    return fragment


cdef object fault_of(Scan *s, Trace *trace, bytes payload):
    cdef const char *bad = <const char *> s.base + trace.bad_id
    cdef bytes found = PyBytes_FromStringAndSize(bad, trace.bad_length)
    reason = INVALID_TRACE_ID if trace.kind == BAD_TRACE_ID else INVALID_SPAN_ID
    return Fault(reason, bad_spans(reason, trace.spans, s.spans.used, found), payload)


cdef tuple results(Scan *s, bytes message, bytes arrived, list faults, list texts):
    """What was found in a message that was read to its end."""
    cdef list found, alive = []
    cdef uint32_t number
    cdef Trace *trace = traces(s)
    cdef bytes payload
    if s.traces.used == 1 and trace.kind == GOOD:
        return (fragment_of(s, trace, message, texts, alive),)
    if s.traces.used == 0:
        faults.append(Fault(FaultReason.EMPTY, "the message has no span", arrived))
        return ()
    if s.traces.used > 1 and not affordable(s):
        detail = f"its parts would take more than {SPLIT_BUDGET >> 20} MiB"
        faults.append(Fault(FaultReason.SPLIT_TOO_LARGE, detail, arrived))
        return ()
    found = []
    for number in range(s.traces.used):
        trace = traces(s) + number
        payload = message if s.traces.used == 1 else part_of(s, trace)
        if trace.kind == GOOD:
            found.append(fragment_of(s, trace, payload, texts, alive))
        else:
            faults.append(fault_of(s, trace, payload))
    return tuple(found)


cdef int put_aside(Scan *s, bytes arrived, list faults) except -1:
    """Tell what is wrong with a message that could not be read to its end."""
    if s.trouble == NO_MEMORY:
        raise MemoryError
    what = TROUBLES[<int> s.trouble].format(a=s.a, b=s.b)
    faults.append(Fault(FaultReason.UNREADABLE, f"{what} at byte {s.where - s.base}", arrived))
    return 0


# The front doors ----------------------------------------------------------------------------------------------------


cdef int compile_keys(Keys *keys, list wanted) except -1:
    """Fill the table from (ask, key) pairs. The keys' bytes must outlive it."""
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


cdef class Scanner:
    """Takes records apart, and finds what `lookup` asks for: see `reference.Scanner`, whose meaning this has."""

    cdef Wanted wanted
    cdef list keys  # whose bytes the tables point to
    cdef list texts  # some of the last values found

    def __cinit__(self, lookup=NOTHING):
        cdef dict plain = {
            Place.NAME: PLAIN_NAME, Place.KIND: PLAIN_KIND, Place.STATUS: PLAIN_STATUS,
            Place.TRACE_STATE: PLAIN_TRACE_STATE,
        }
        cdef list asks = [
            (at, ask.place, ask.key.encode("utf-8", "surrogatepass")) for at, ask in enumerate(lookup.asks)
        ]
        self.keys = [text for _, _, text in asks]
        self.texts = [None] * SHARED_TEXTS
        compile_keys(&self.wanted.spans, [(at, text) for at, place, text in asks if place is Place.SPAN])
        compile_keys(&self.wanted.resources, [(at, text) for at, place, text in asks if place is Place.RESOURCE])
        compile_keys(&self.wanted.scopes, [(at, text) for at, place, text in asks if place is Place.SCOPE])
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

    def fragments(self, value, encoding, list faults not None):
        """One fragment for each trace in a record's value, by first appearance. Never raises, whatever the bytes.

        What cannot be handled is appended to `faults`. Every span is in exactly one of the fragments or faults.
        """
        cdef const char *text
        if type(value) is bytes and PyBytes_GET_SIZE(value) > 0 and encoding is not JSON:
            text = PyBytes_AS_STRING(value)
            if encoding is PROTO or <uint8_t> text[0] != BRACE:
                return self.scan(<bytes> value, <bytes> value, faults)
        message = message_of(value, encoding, faults)
        return () if message is None else self.scan(message, value, faults)

    cdef tuple scan(self, bytes message, bytes arrived, list faults):
        cdef Scan s
        cdef Firsts firsts
        cdef bint read
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message)
        if <uint64_t> size > MOST_BYTES:
            faults.append(Fault(FaultReason.UNREADABLE, f"a message of {size} bytes", arrived))
            return ()
        s.base = <Pos> PyBytes_AS_STRING(message)
        s.stop = s.base + size
        s.wanted = &self.wanted
        start(&s, &firsts)
        try:
            if size >= WITHOUT_GIL_BYTES:
                with nogil:
                    read = walk_message(&s)
            else:
                read = walk_message(&s)
            if read:
                return results(&s, message, arrived, faults, self.texts)
            put_aside(&s, arrived, faults)
            return ()
        finally:
            finish(&s)


cdef void start(Scan *s, Firsts *firsts) noexcept nogil:
    set_up(&s.spans, firsts.spans, FIRST_SPANS, sizeof(Span))
    set_up(&s.traces, firsts.traces, FIRST_FEW, sizeof(Trace))
    set_up(&s.resources, firsts.resources, FIRST_FEW, sizeof(Holder))
    set_up(&s.scopes, firsts.scopes, FIRST_FEW, sizeof(Holder))
    set_up(&s.resource_runs, firsts.resource_runs, FIRST_FEW, sizeof(Run))
    set_up(&s.scope_runs, firsts.scope_runs, FIRST_FEW, sizeof(Run))
    set_up(&s.top_runs, firsts.top_runs, FIRST_FEW, sizeof(Run))
    set_up(&s.hits, firsts.hits, FIRST_FEW, sizeof(Hit))
    s.index = NULL
    s.index_room = s.last_trace = 0
    s.bad_traces[0] = s.bad_traces[1] = s.bad_traces[2] = NONE
    s.trouble = NO_TROUBLE


cdef void finish(Scan *s) noexcept nogil:
    release(&s.spans)
    release(&s.traces)
    release(&s.resources)
    release(&s.scopes)
    release(&s.resource_runs)
    release(&s.scope_runs)
    release(&s.top_runs)
    release(&s.hits)
    free(s.index)


# Lineage ------------------------------------------------------------------------------------------------------------

cdef enum:
    OBJECT_BYTES = 48  # of the Python object
    SMALL = 32  # ids that are found by looking at all; beyond, a table


cdef inline uint32_t slot_in(const uint64_t *ids, uint32_t room, uint64_t id) noexcept nogil:
    """The slot of a table that has this id, or would have it."""
    cdef uint32_t slot = (mixed(id) >> 32) * room >> 32
    while ids[slot] and ids[slot] != id:
        slot += 1
        if slot == room:
            slot = 0
    return slot


# Behind a table's ids stand its bits, one for each slot: whether that id has been seen.
cdef inline size_t table_bytes(uint32_t room) noexcept nogil:
    return room * sizeof(uint64_t) + (room + 7) // 8


cdef inline bint has_bit(const uint64_t *ids, uint32_t room, uint32_t slot) noexcept nogil:
    return (<const uint8_t *> (ids + room))[slot >> 3] >> (slot & 7) & 1


cdef inline void set_bit(uint64_t *ids, uint32_t room, uint32_t slot) noexcept nogil:
    (<uint8_t *> (ids + room))[slot >> 3] |= 1 << (slot & 7)


cdef class Lineage:
    """Which parents of one trace's spans have been named and not seen, over any number of fragments.

    Beyond `LINEAGE_SPANS` ids, seen or named, it forgets them all and stays open: such a trace counts as incomplete.

    A small one is an array, the seen ids first and then the open ones: 8 bytes for each id. A large one is a table of
    between a half and four fifths full, with a bit for each place that says whether its id has been seen.
    """

    cdef uint64_t *ids
    cdef uint32_t room
    cdef uint32_t used
    cdef uint32_t named  # of those the open ones
    cdef bint odd  # a parent was named that no span can be
    cdef bint full

    def __dealloc__(self):
        free(self.ids)

    def add(self, bytes span_ids not None, bytes missing not None):
        """`Fragment.span_ids` and `Fragment.missing`. Raises ValueError for what does not consist of 8 bytes each."""
        cdef Pos seen = <Pos> PyBytes_AS_STRING(span_ids), named = <Pos> PyBytes_AS_STRING(missing)
        cdef Py_ssize_t seen_bytes = PyBytes_GET_SIZE(span_ids), named_bytes = PyBytes_GET_SIZE(missing), at
        if seen_bytes % 8 or named_bytes % 8:
            raise ValueError(f"ids are 8 bytes each, not {seen_bytes} and {named_bytes} in all")
        for at in range(0, seen_bytes, 8):
            self.enter(id_at(seen + at), True)
        for at in range(0, named_bytes, 8):
            self.enter(id_at(named + at), False)

    cdef int enter(self, uint64_t id, bint seen) except -1:
        if id == 0:  # no span's; it stands for a parent of another length
            self.odd |= not seen
        elif self.full:
            pass
        elif self.room <= SMALL:
            self.enter_small(id, seen)
        else:
            self.enter_large(id, seen)
        return 0

    cdef int enter_small(self, uint64_t id, bint seen) except -1:
        cdef uint32_t at = 0, first_open = self.used - self.named
        while at < self.used and self.ids[at] != id:
            at += 1
        if at == self.used:
            if self.used == SMALL:
                self.rebuild(SMALL * 2)
                return self.enter_large(id, seen)
            if self.used == self.room:
                self.widen()
            self.ids[at] = id
            self.used += 1
            self.named += 1
        if seen and at >= first_open:
            self.ids[at], self.ids[first_open] = self.ids[first_open], id
            self.named -= 1
        return 0

    cdef int widen(self) except -1:
        """Room for two more small ones: malloc's own step is 16 bytes."""
        cdef uint64_t *ids = <uint64_t *> realloc(self.ids, (self.room + 2) * sizeof(uint64_t))
        if ids == NULL:
            raise MemoryError
        self.ids, self.room = ids, self.room + 2
        return 0

    cdef int enter_large(self, uint64_t id, bint seen) except -1:
        cdef uint32_t slot = slot_in(self.ids, self.room, id)
        if self.ids[slot] == 0:
            if self.used == MOST_LINEAGE:
                self.forget()
                return 0
            if <uint64_t> self.used * 5 > <uint64_t> self.room * 4:
                self.rebuild(self.used * 2)
                slot = slot_in(self.ids, self.room, id)
            self.ids[slot] = id
            self.used += 1
            self.named += 1
        if seen and not has_bit(self.ids, self.room, slot):
            set_bit(self.ids, self.room, slot)
            self.named -= 1
        return 0

    cdef int rebuild(self, uint32_t room) except -1:
        """Enter all ids in a new table."""
        cdef uint64_t *ids = <uint64_t *> calloc(1, table_bytes(room))
        cdef uint32_t at, slot, seen_small = self.used - self.named
        cdef bint seen
        if ids == NULL:
            raise MemoryError
        for at in range(self.room):
            if self.room <= SMALL:
                seen = at < seen_small
            else:
                seen = has_bit(self.ids, self.room, at)
            if self.ids[at]:
                slot = slot_in(ids, room, self.ids[at])
                ids[slot] = self.ids[at]
                if seen:
                    set_bit(ids, room, slot)
        free(self.ids)
        self.ids, self.room = ids, room
        return 0

    cdef void forget(self) noexcept:
        free(self.ids)
        self.ids = NULL
        self.room = self.used = self.named = 0
        self.full = True

    @property
    def open(self):
        """How many parents were named and have not been seen."""
        return 1 if self.full else self.named + self.odd

    @property
    def bytes(self):
        """Its memory."""
        return OBJECT_BYTES + (table_bytes(self.room) if self.room > SMALL else self.room * sizeof(uint64_t))

    def __repr__(self):
        return f"Lineage(open={self.open})"
