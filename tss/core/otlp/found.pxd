"""The results of the pass over a record, in C arrays. Positions are offsets in the message. References are indexes, because
arrays move when they grow.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from tss.core.otlp.protobuf cimport NO_MEMORY, Failure, Pos, fail

cdef enum:
    NONE = 0xFFFFFFFF
    KEY_SLOTS = 64
    TRACE_STATE = 0xFFFFFFFE  # in place of an ask: the trace state of a span, which may have an `ot` member

cdef enum Level:  # of a Holder
    MESSAGE
    RESOURCE
    SCOPE

cdef enum TraceKind:  # a real trace, or all spans with the same kind of invalid id
    GOOD
    BAD_TRACE_ID
    BAD_SPAN_ID

cdef enum Parent:
    ROOT
    NAMED
    ODD  # the parent id has an invalid length

cdef enum Type:  # of the value of a Hit
    NOT_SET
    TEXT
    BOOL
    INT
    DOUBLE
    BYTES
    ARRAY
    MAP

cdef enum OfSpan:  # the fields of a span that are no attributes
    TRACE_ID
    SPAN_ID
    STATE
    PARENT_ID
    NAME
    KIND
    START
    END
    DURATION
    DROPPED_ATTRIBUTES
    DROPPED_EVENTS
    DROPPED_LINKS
    STATUS_MESSAGE
    STATUS_CODE
    FLAGS


cdef struct Chain:
    uint32_t first
    uint32_t last


cdef struct Kept:  # the hits of a span or a holder
    uint32_t first
    uint32_t last
    uint64_t seen  # the attributes among the first 64 asks that were found


cdef struct Span:
    uint64_t span_id
    uint64_t parent_id
    uint64_t start_ns
    uint64_t end_ns
    uint32_t start  # where the field starts, with its tag
    uint32_t stop
    uint32_t scope
    uint32_t next  # the next span of the same trace
    uint32_t hits  # its first hit
    uint32_t[2] body  # in the first span of a trace in a holder, by level: the size of the trace's part of that holder
    uint8_t parent  # Parent


cdef struct Trace:
    uint64_t high
    uint64_t low
    uint64_t start_ns
    uint64_t end_ns
    uint64_t size  # of its part if the record is split
    uint32_t first
    uint32_t last
    uint32_t spans
    uint32_t errors
    uint32_t named  # the number of spans that name a parent
    uint32_t bad_id  # offset of the first bad id
    uint32_t bad_length
    uint8_t kind  # TraceKind
    uint8_t has_root


cdef struct Holder:  # a ResourceSpans, a ScopeSpans, or the whole message (number 0)
    uint32_t start
    uint32_t content  # where the content starts
    uint32_t stop
    uint32_t within
    uint32_t traces  # the number of traces that have a span in it
    Chain runs
    Kept hits
    uint64_t shared_bytes  # bytes of the fields that go into each part
    uint64_t shared_fields


cdef struct Run:  # adjacent shared fields
    uint32_t start
    uint32_t stop
    uint32_t next  # the next run of the same holder


cdef struct Hit:  # a value that was asked for
    Pos at
    uint64_t bits  # the bits of a number, or the size in bytes
    uint32_t next  # the next hit of the same holder or span
    uint32_t ask
    uint8_t type  # Type


cdef struct Text:
    Pos at
    uint32_t size


cdef struct Array:
    void *items
    void *first  # the first room, on the stack
    uint32_t used
    uint32_t room
    uint32_t each


cdef struct Key:  # the key of an attribute that is asked for
    const char *text
    uint32_t size
    uint32_t ask
    int32_t next  # the next key in the same slot


cdef struct Keys:
    int32_t slots[KEY_SLOTS]
    Key *items
    uint32_t used


cdef struct Plain:  # a field that is asked for and is no attribute
    uint64_t tag  # of a span instead: OfSpan
    uint32_t ask
    uint8_t type


cdef struct Asks:  # what is asked of spans, events, resources or scopes
    Keys keys
    Plain *plain
    uint32_t plain_used
    uint64_t tag  # of the field of its attributes


cdef struct Wanted:
    Asks spans
    Asks events
    Asks resources
    Asks scopes
    bint dropped  # whether a count of what a span dropped is asked for


cdef struct Scan:
    Pos base
    Pos stop
    Wanted *wanted
    Array spans
    Array traces
    Array holders
    Array runs
    Array hits
    uint32_t *index  # a hash table of good traces by id, once there are more than a few: number + 1, or 0
    uint32_t index_room
    uint32_t last_trace
    bint has_state  # whether a span has a trace state that may have an `ot` member
    uint32_t[3] bad_traces  # by TraceKind
    Failure failure


cdef enum:
    EVENT_INDEX = 0  # in place of the tag of a field: the place of an event in its span


cdef inline int64_t lasting(uint64_t start_ns, uint64_t end_ns) noexcept nogil:
    """From a start to an end, as Go's `Time.Sub` has it: signed, and limited to 64 bits."""
    cdef int64_t start = <int64_t> start_ns, end = <int64_t> end_ns, found = <int64_t> (end_ns - start_ns)
    if (start < 0) != (end < 0) and (found < 0) != (end < 0):
        return INT64_MIN if end < 0 else INT64_MAX
    return found


cdef inline void set_up(Array *array, void *first, uint32_t room, uint32_t each) noexcept nogil:
    array.items = array.first = first
    array.used, array.room, array.each = 0, room, each


cdef inline bint grow(Scan *s, Array *array) noexcept nogil:
    """Make room for one more item. False if there is no memory; then `failure` is set."""
    cdef uint32_t room = array.room * 2
    cdef void *items = realloc(NULL if array.items == array.first else array.items, <size_t> room * array.each)
    if items == NULL:
        fail(&s.failure, NO_MEMORY, s.base)
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


cdef inline Holder *holders(Scan *s) noexcept nogil:
    return <Holder *> s.holders.items


cdef inline Run *runs(Scan *s) noexcept nogil:
    return <Run *> s.runs.items


cdef inline Hit *hits(Scan *s) noexcept nogil:
    return <Hit *> s.hits.items


cdef inline uint32_t holder_of(Scan *s, uint32_t span, Level level) noexcept nogil:
    """The holder of a span at this level (RESOURCE or SCOPE)."""
    cdef uint32_t scope = spans(s)[span].scope
    return scope if level == SCOPE else holders(s)[scope].within
