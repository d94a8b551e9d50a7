# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Splits a message into one per trace, with the same result as `wire.split`, from the results of the pass."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from tss.core.otlp.found cimport (
    NONE, RESOURCE, SCOPE, Holder, Level, Scan, Trace, holder_of, holders, runs, spans, traces,
)

from tss.core.otlp.wire import MAX_SPLIT_BYTES, PIECE_BYTES

cdef uint64_t SPLIT_BUDGET = MAX_SPLIT_BYTES
cdef uint64_t PIECE = PIECE_BYTES


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
    """The size of one trace's part of a holder: the whole holder if no other trace is in it."""
    if holder.traces == 1:
        return holder.stop - holder.start
    return holder.content - holder.start + varint_size(body) + body


cdef inline uint64_t shared_cost(Holder *holder) noexcept nogil:
    return holder.shared_bytes + PIECE * (holder.shared_fields + 1)


cdef void count_traces(Scan *s) noexcept nogil:
    """Count the traces of each holder."""
    cdef uint32_t number, at, scope, resource
    for number in range(s.traces.used):
        scope = resource = NONE
        at = traces(s)[number].first
        while at != NONE:
            if holder_of(s, at, SCOPE) != scope:
                scope = holder_of(s, at, SCOPE)
                holders(s)[scope].traces += 1
            if holder_of(s, at, RESOURCE) != resource:
                resource = holder_of(s, at, RESOURCE)
                holders(s)[resource].traces += 1
            at = spans(s)[at].next


cdef uint64_t measure(Scan *s, Level level, uint32_t *at, uint64_t *around) noexcept nogil:
    """Measure a trace's part of a holder, from its first span there on, and add it to `around`. Returns its cost as in
    `wire`."""
    cdef uint32_t first = at[0], number = holder_of(s, at[0], level), size
    cdef Holder *holder = holders(s) + number
    cdef uint64_t body = holder.shared_bytes, cost = shared_cost(holder)
    while at[0] != NONE and holder_of(s, at[0], level) == number:
        if level == RESOURCE:
            cost += measure(s, SCOPE, at, &body)
            continue
        size = spans(s)[at[0]].stop - spans(s)[at[0]].start
        body += size
        cost += size + PIECE
        at[0] = spans(s)[at[0]].next
    spans(s)[first].body[level - RESOURCE] = body
    size = piece_size(holder, body)
    around[0] += size
    return cost + size + PIECE


cdef bint affordable(Scan *s) noexcept nogil:
    """Measure all parts. Returns whether their cost is within `wire.MAX_SPLIT_BYTES`."""
    cdef uint32_t number, at
    cdef uint64_t cost = 0
    count_traces(s)
    for number in range(s.traces.used):
        traces(s)[number].size = holders(s).shared_bytes
        cost += shared_cost(holders(s))
        at = traces(s)[number].first
        while at != NONE:
            cost += measure(s, RESOURCE, &at, &traces(s)[number].size)
    return cost <= SPLIT_BUDGET


cdef inline uint8_t *copy(Scan *s, uint8_t *out, uint32_t start, uint32_t stop) noexcept nogil:
    memcpy(out, s.base + start, stop - start)
    return out + (stop - start)


cdef inline uint8_t *copy_shared(Scan *s, uint8_t *out, uint32_t *run, uint32_t before) noexcept nogil:
    """Write the shared fields before a position, from the given run on."""
    while run[0] != NONE and runs(s)[run[0]].start < before:
        out = copy(s, out, runs(s)[run[0]].start, runs(s)[run[0]].stop)
        run[0] = runs(s)[run[0]].next
    return out


cdef uint8_t *write(Scan *s, uint8_t *out, Level level, uint32_t *at) noexcept nogil:
    """Write a trace's part of a holder, from its first span there up to its first span in another holder."""
    cdef uint32_t number = holder_of(s, at[0], level)
    cdef Holder *holder = holders(s) + number
    cdef uint32_t run = holder.runs.first
    cdef bint whole = holder.traces == 1
    if whole:
        out = copy(s, out, holder.start, holder.stop)
    else:
        out = write_varint(copy(s, out, holder.start, holder.content), spans(s)[at[0]].body[level - RESOURCE])
    while at[0] != NONE and holder_of(s, at[0], level) == number:
        if not whole and level == RESOURCE:
            out = copy_shared(s, out, &run, holders(s)[holder_of(s, at[0], SCOPE)].start)
            out = write(s, out, SCOPE, at)
            continue
        if not whole:
            out = copy_shared(s, out, &run, spans(s)[at[0]].start)
            out = copy(s, out, spans(s)[at[0]].start, spans(s)[at[0]].stop)
        at[0] = spans(s)[at[0]].next
    return out if whole else copy_shared(s, out, &run, holder.stop)


cdef bytes part_of(Scan *s, Trace *trace):
    """The message with only one trace's spans."""
    cdef bytes part = PyBytes_FromStringAndSize(NULL, trace.size)
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(part)
    cdef uint8_t *end = out + trace.size
    cdef uint32_t at = trace.first, run = holders(s).runs.first
    while at != NONE:
        out = copy_shared(s, out, &run, holders(s)[holder_of(s, at, RESOURCE)].start)
        out = write(s, out, RESOURCE, &at)
    out = copy_shared(s, out, &run, holders(s).stop)
    if out != end:
        raise AssertionError(f"a part of {end - out} bytes fewer than measured")  # law 6
    return part
