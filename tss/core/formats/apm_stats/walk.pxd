# The result of a walk over a trace's bytes, in C: the APM statistics and the span metrics count from it.

from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t

from tss.core.otlp.protobuf cimport Pos

cdef extern from *:  # the constants of `core/spantime.py`; macros, since an enum has only 32 bits
    """
    #define TSS_YEAR_2000_NS 946684800000000000ULL
    #define TSS_MAX_INT64 9223372036854775807ULL
    """
    uint64_t YEAR_2000_NS "TSS_YEAR_2000_NS"
    uint64_t MAX_INT64 "TSS_MAX_INT64"

cdef enum:
    KEY_SLOTS = 1024
    NO_NOTE = 0xFF
    MOST_NOTES = 4
    MOST_NOTE = 1024  # `groups.MAX_NOTE`
    MOST_TEXTS = 5
    NOBODY = 0xFFFFFFFF  # the parent is not among the spans


cdef struct Piece:  # a part of a chunk; the chunk outlives it
    Pos at
    Pos stop


cdef struct Holder:  # a ResourceSpans
    Piece whole  # its message
    Piece told  # its last Resource field
    uint32_t telling  # the number of its Resource fields
    uint64_t series  # the hash of the attributes that affect a series
    uint64_t service  # the hash of the attributes that name the service
    Piece[MOST_NOTES] notes


cdef struct Fact:  # what is known about one span
    uint64_t span_id
    uint64_t parent_id  # 0: a root
    uint64_t start_ns
    uint64_t end_ns
    uint64_t series  # the hash of all fields that affect its series, including its resource's
    uint64_t bare  # `series` without its name and `texts`: only whether they are present
    uint64_t service  # the hash of the attributes that name its service
    Piece span  # the Span message
    Piece name
    Piece trace_state
    Piece[MOST_NOTES] notes  # the noted attributes (KeyValue messages): its own, else its resource's
    Piece[MOST_TEXTS] texts  # its own attributes among `texts`, if they are strings and not empty
    int32_t kind
    int32_t status
    uint32_t resource  # the number of its Holder
    uint32_t parent  # set by `relate`: the number of its parent's fact, or NOBODY
    uint32_t again  # set by `relate`: whether an earlier span is equal byte for byte


cdef struct Key:
    const char *text
    uint32_t size
    uint8_t names  # whether it affects the series
    uint8_t service  # whether it names the service
    uint8_t note  # its number in `notes`, or NO_NOTE
    uint8_t apart  # its number in `texts`, or NO_NOTE
    int16_t next  # the next key in the same slot, or -1


cdef struct Keys:
    int16_t[KEY_SLOTS] slots
    Key *items
    uint32_t used


cdef class Walker:
    cdef Fact *facts
    cdef uint32_t count  # the number of facts
    cdef uint32_t room
    cdef Holder *resources
    cdef uint32_t resource_count
    cdef uint32_t resource_room
    cdef uint32_t *index  # a hash table of spans by id, for `relate`
    cdef uint32_t index_room
    cdef uint32_t *twins  # a hash table of the spans that are not the first of their id
    cdef Keys span_keys
    cdef Keys resource_keys
    cdef bint by_status
    cdef tuple texts  # the bytes of the keys, which `Keys` points to
    cdef Keys prefixes
    cdef object resource  # called with a serialized Resource
    cdef dict around  # its results, by the number of the Holder
    cdef tuple held  # the chunks that the facts point into
    cdef readonly uint64_t broken  # chunks that could not be walked to their end

    cpdef uint32_t walk(self, list chunks) except? 0xFFFFFFFF
    cpdef forget(self)
    cdef int relate(self) except -1
    cdef bytes span_bytes(self, Fact *fact)
    cdef object around_of(self, Fact *fact)


cdef inline bint is_known(uint64_t time_ns) noexcept nogil:
    return time_ns >= YEAR_2000_NS and time_ns <= MAX_INT64


cdef inline uint64_t duration_of(Fact *fact) noexcept nogil:
    """The duration in ns, as `spantime.start_and_duration` computes it."""
    cdef bint known = is_known(fact.start_ns)
    if fact.end_ns < fact.start_ns or fact.end_ns > MAX_INT64 or (not known and fact.end_ns >= YEAR_2000_NS):
        return 0
    return fact.end_ns - fact.start_ns


cdef inline bytes bytes_of(Piece *piece):
    return (<const char *> piece.at)[:piece.stop - piece.at] if piece.at != NULL else b""
