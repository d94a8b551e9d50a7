# What a walk over a trace's bytes leaves, in C: for whoever counts spans by what they are called.

from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t

from tss.core.otlp.protobuf cimport Pos

cdef extern from *:  # of `core/spantime.py`; an enum has 32 bits
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
    MOST_NOTE = 1024  # as `groups.MAX_NOTE`
    MOST_TEXTS = 5
    NOBODY = 0xFFFFFFFF  # no parent among the spans


cdef struct Piece:  # of the chunks, which outlive it
    Pos at
    Pos stop


cdef struct Holder:  # a ResourceSpans
    Piece whole  # its message
    Piece told  # its Resource, if there is just one
    uint32_t telling  # how many there are of these
    uint64_t series  # the hash of what names a series
    uint64_t service  # the hash of what names the service
    Piece[MOST_NOTES] notes


cdef struct Fact:  # of a span
    uint64_t span_id
    uint64_t parent_id  # 0: a root
    uint64_t start_ns
    uint64_t end_ns
    uint64_t series  # the hash of all that names its series, its resource's part included
    uint64_t bare  # as `series`, of its name and `texts` only whether they are there
    uint64_t service  # the hash of what names its service
    Piece span  # the Span message
    Piece name
    Piece trace_state
    Piece[MOST_NOTES] notes  # the attributes to note (KeyValue messages): its own, else its resource's
    Piece[MOST_TEXTS] texts  # of its own attributes among `texts`, where they are strings with something in them
    int32_t kind
    int32_t status
    uint32_t resource  # the number of its holder
    uint32_t parent  # after `relate`: which of the facts is its parent's, or NOBODY
    uint32_t again  # after `relate`: whether an earlier span is the same, byte for byte


cdef struct Key:
    const char *text
    uint32_t size
    uint8_t names  # counts for the series
    uint8_t service  # counts for the service
    uint8_t note  # which one, or NO_NOTE
    uint8_t apart  # which one of the texts, or NO_NOTE
    int16_t next  # in the same slot, or -1


cdef struct Keys:
    int16_t[KEY_SLOTS] slots
    Key *items
    uint32_t used


cdef class Walker:
    cdef Fact *facts
    cdef uint32_t count  # of the facts
    cdef uint32_t room
    cdef Holder *resources
    cdef uint32_t resource_count
    cdef uint32_t resource_room
    cdef uint32_t *index  # of spans by id, for `relate`
    cdef uint32_t index_room
    cdef uint32_t *twins  # likewise, of spans that are not the first of their id
    cdef Keys span_keys
    cdef Keys resource_keys
    cdef bint by_status
    cdef tuple texts  # of the keys
    cdef Keys prefixes
    cdef object resource  # reads a Resource message for whoever names series
    cdef dict around  # what it made of them, by the number of the holder
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
    """As `spantime.start_and_duration` has it."""
    cdef bint known = is_known(fact.start_ns)
    if fact.end_ns < fact.start_ns or fact.end_ns > MAX_INT64 or (not known and fact.end_ns >= YEAR_2000_NS):
        return 0
    return fact.end_ns - fact.start_ns


cdef inline bytes bytes_of(Piece *piece):
    return (<const char *> piece.at)[:piece.stop - piece.at] if piece.at != NULL else b""
