# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""`tracestates.with_states` compiled: one pass finds what changes, then the new message is written into memory of its exact size.

For valid messages it finds the same as the reference, byte for byte. A message that it cannot read goes to the reference.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from tss.core.otlp.protobuf cimport LENGTH, MAX_DEPTH, Failure, Pos, content, head, is_same, skip

from tss.core.otlp import tracestates
from tss.core.otlp.wire import WireError

cdef enum:
    FIRST = 32  # edits that need no memory beside the object: those of 14 spans in one scope
    KINDS = 8  # of outcomes
    RESOURCE_SPANS = 1 << 3 | LENGTH  # in TracesData
    BELOW = 2 << 3 | LENGTH  # ResourceSpans.scope_spans and ScopeSpans.spans
    SPAN_LEVEL = 2
    TRACE_STATE = 3 << 3 | LENGTH  # in Span
    BEHIND = 4 << 3  # fields from this number on belong behind a trace state

if KINDS != tracestates.OUTCOMES:
    raise ImportError("tracestates has another number of outcomes")

cdef struct Edit:
    # The bytes of the message between these two are replaced.
    Pos start
    Pos stop
    Pos field  # by these bytes; NULL: by `size` as a varint
    uint64_t size


def with_states(bytes message not None, change):
    """See `tracestates.with_states`."""
    cdef _Restating made = _Restating(message, change)
    cdef Pos start = <Pos> PyBytes_AS_STRING(message)
    try:
        made.level(start, start + PyBytes_GET_SIZE(message), 0)
    except WireError:
        return tracestates.with_states(message, change)
    return made.written(), [made.outcomes[kind] for kind in range(KINDS)]


cdef class _Restating:
    """One pass over a message, and what it found: the edits, in the order of the message."""

    cdef bytes message
    cdef object change
    cdef dict known  # by trace state: the new field, and the outcome
    cdef uint64_t[KINDS] outcomes
    cdef Edit[FIRST] first
    cdef Edit *edits
    cdef size_t used
    cdef size_t room
    cdef int64_t growth  # of the message, by these edits
    # The last trace state that was looked up, and the answer: most spans of a trace have the same one.
    cdef Pos old
    cdef Py_ssize_t old_size  # -1: there was none yet
    cdef Pos field  # NULL: it stays
    cdef Py_ssize_t field_size
    cdef Py_ssize_t outcome

    def __cinit__(self, bytes message, change):
        self.message, self.change = message, change
        self.known = {}
        self.edits, self.room = self.first, FIRST
        self.old_size = -1

    def __dealloc__(self):
        if self.edits != self.first:
            free(self.edits)

    cdef int level(self, Pos at, Pos stop, int level) except -1:
        """Find the edits of a message on the way to the spans. It calls itself on two further levels."""
        cdef Failure failure
        cdef uint64_t tag = 0
        cdef Pos after_tag, body, end = NULL
        cdef uint64_t down = BELOW if level else RESOURCE_SPANS
        while at != stop:
            after_tag = head(&failure, at, stop, &tag)
            if after_tag == NULL:
                raise WireError("malformed", 0)
            if tag != down:
                at = skip(&failure, after_tag, stop, tag, MAX_DEPTH)
                if at == NULL:
                    raise WireError("malformed", 0)
                continue
            body = content(&failure, after_tag, stop, &end)
            if body == NULL:
                raise WireError("malformed", 0)
            if level == SPAN_LEVEL:
                self.span(after_tag, body, end)
            else:
                self.container(after_tag, body, end, level)
            at = end
        return 0

    cdef int container(self, Pos after_tag, Pos body, Pos end, int level) except -1:
        """Find the edits of a ResourceSpans or ScopeSpans, and of its length."""
        cdef size_t own = self.used
        cdef int64_t before = self.growth
        cdef uint64_t size
        self.add(after_tag, body, NULL, 0)
        self.level(body, end, level + 1)
        if self.used == own + 1:  # nothing in it changes
            self.used = own
            return 0
        size = <uint64_t> (end - body + self.growth - before)
        self.edits[own].size = size
        self.growth += varint_size(size) - (body - after_tag)
        return 0

    cdef int span(self, Pos after_tag, Pos body, Pos stop) except -1:
        """Find the edits of a span."""
        cdef Failure failure
        cdef uint64_t tag = 0, size
        cdef Pos at = body, after, start, end = NULL
        cdef Pos place = NULL, place_end = NULL  # of the field with the trace state
        cdef Pos behind = NULL  # the first field that belongs behind a trace state
        cdef Pos old = stop
        cdef Py_ssize_t old_size = 0
        while at != stop:
            after = head(&failure, at, stop, &tag)
            if after == NULL:
                raise WireError("malformed", 0)
            if tag & 7 == LENGTH and tag >= 8:
                start = content(&failure, after, stop, &end)
            else:
                end = skip(&failure, after, stop, tag, MAX_DEPTH)
            if end == NULL:
                raise WireError("malformed", 0)
            if tag == TRACE_STATE:
                place, place_end, old, old_size = at, end, start, end - start
            elif behind == NULL and tag >= BEHIND:
                behind = at
            at = end
        if old_size != self.old_size or not is_same(old, self.old, old_size):
            self.look_up(old, old_size)
        self.outcomes[self.outcome] += 1
        if self.field == NULL:
            return 0
        if place == NULL:
            place = place_end = behind if behind != NULL else stop
        size = <uint64_t> (stop - body - (place_end - place) + self.field_size)
        self.add(after_tag, body, NULL, size)
        self.add(place, place_end, self.field, self.field_size)
        self.growth += self.field_size - (place_end - place) + varint_size(size) - (body - after_tag)
        return 0

    cdef int look_up(self, Pos old, Py_ssize_t old_size) except -1:
        """Set the answer to that for this trace state."""
        cdef bytes text = PyBytes_FromStringAndSize(<const char *> old, old_size), new, field = None
        cdef Py_ssize_t outcome
        found = self.known.get(text)
        if found is None:
            new, outcome = self.change(text)
            if not 0 <= outcome < KINDS:
                raise IndexError(f"the outcome {outcome} is not below {KINDS}")
            if new is not None:
                field = field_of(new)
            self.known[text] = field, outcome
        else:
            field, outcome = found
        # `known` keeps the field.
        self.field = NULL if field is None else <Pos> PyBytes_AS_STRING(field)
        self.field_size = 0 if field is None else PyBytes_GET_SIZE(field)
        self.old, self.old_size, self.outcome = old, old_size, outcome
        return 0

    cdef int add(self, Pos start, Pos stop, Pos field, uint64_t size) except -1:
        cdef Edit *more
        if self.used == self.room:
            if self.edits == self.first:
                more = <Edit *> malloc(2 * FIRST * sizeof(Edit))
                if more != NULL:
                    memcpy(more, self.first, sizeof(self.first))
            else:
                more = <Edit *> realloc(self.edits, self.room * 2 * sizeof(Edit))
            if more == NULL:
                raise MemoryError
            self.edits, self.room = more, self.room * 2
        self.edits[self.used] = Edit(start, stop, field, size)
        self.used += 1
        return 0

    cdef bytes written(self):
        """The message with the edits; the same object if there are none."""
        cdef Pos at = <Pos> PyBytes_AS_STRING(self.message)
        cdef Pos stop = at + PyBytes_GET_SIZE(self.message)
        cdef bytes made
        cdef uint8_t *to
        cdef size_t number
        cdef Edit edit
        if not self.used:
            return self.message
        made = PyBytes_FromStringAndSize(NULL, stop - at + self.growth)
        to = <uint8_t *> PyBytes_AS_STRING(made)
        for number in range(self.used):
            edit = self.edits[number]
            memcpy(to, at, edit.start - at)
            to += edit.start - at
            at = edit.stop
            if edit.field != NULL:
                memcpy(to, edit.field, edit.size)
                to += edit.size
                continue
            to = with_varint(to, edit.size)
        memcpy(to, at, stop - at)
        return made


cdef bytes field_of(bytes state):
    """The field of a span with this trace state."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(state)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, 1 + varint_size(size) + size)
    cdef uint8_t *to = <uint8_t *> PyBytes_AS_STRING(made)
    to[0] = TRACE_STATE
    memcpy(with_varint(to + 1, size), PyBytes_AS_STRING(state), size)
    return made


cdef inline uint8_t *with_varint(uint8_t *to, uint64_t value) noexcept nogil:
    """Write a varint; the place behind it."""
    while value > 0x7F:
        to[0] = value & 0x7F | 0x80
        to += 1
        value >>= 7
    to[0] = value
    return to + 1


cdef inline int64_t varint_size(uint64_t value) noexcept nogil:
    """The number of bytes of a varint."""
    cdef int64_t size = 1
    while value > 0x7F:
        size += 1
        value >>= 7
    return size
