# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Span metrics in C: a walk makes a fact of each span; the number of the fact's series is the index of its counts."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport rint  # half to even, like Python's round
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from tss.core.formats.apm_stats.series cimport NAMELESS, OVERFLOW, SeriesNumbers
from tss.core.formats.apm_stats.walk cimport Fact, Piece, Walker, bytes_of, duration_of

from tss.core.formats.spanmetrics.naming import Naming, resource_attributes
from tss.core.formats.spanmetrics.series import KEYS, OVERFLOWS, Exemplar, Point
from tss.core.formats.spanmetrics.weight import SAMPLE_RATE_KEY, weight_of_bytes

cdef enum:
    OVERFLOW_SERIES = 3  # one per status code
    FIRST_ROOM = 64
    TRACE_ID_BYTES = 16


cdef struct Example:  # the newest in a bucket of a series
    uint64_t order  # the number among all counted spans; 0 means that there is no example
    uint64_t span_id
    uint64_t duration_ns
    uint64_t end_ns
    uint8_t[TRACE_ID_BYTES] trace_id


cdef class SpanMetrics:
    """Counts every span by its series. A SpanObserver."""

    cdef readonly object shape
    cdef readonly uint64_t spans
    cdef readonly list labels
    cdef Walker walker
    cdef SeriesNumbers series
    cdef uint64_t *bounds
    cdef uint32_t bound_count
    cdef bint has_examples
    cdef uint32_t room  # for series
    cdef double *counts  # by series, by bucket
    cdef double *sums
    cdef Example *examples  # by series, by bucket
    # The last span that was sampled at the head, and its weight. The other spans of its trace usually say the same.
    cdef bytes last_rate
    cdef bytes last_state
    cdef double last_weight

    def __cinit__(self, shape):
        cdef uint32_t number
        keys = [dimension.key for dimension in shape.dimensions]
        self.shape, self.has_examples = shape, shape.exemplars
        self.labels = list(OVERFLOWS)
        self.walker = Walker(
            keys, [KEYS[0], *keys], by_status=True, notes=[SAMPLE_RATE_KEY.decode()], resource=resource_attributes,
        )
        self.series = SeriesNumbers(Naming(shape).of_bytes, None, shape.max_series, shape.max_label_bytes)
        self.last_weight = 1
        self.bound_count = len(shape.bounds_ns)
        self.bounds = <uint64_t *> calloc(self.bound_count or 1, sizeof(uint64_t))
        if self.bounds == NULL:
            raise MemoryError
        for number in range(self.bound_count):
            self.bounds[number] = shape.bounds_ns[number]
        self.grow(FIRST_ROOM)

    def __dealloc__(self):
        free(self.bounds)
        free(self.counts)
        free(self.sums)
        free(self.examples)

    def __repr__(self):
        return f"<SpanMetrics {len(self)} of {self.shape.max_series} series, {self.spans} spans>"

    def __len__(self):
        return len(self.labels) - OVERFLOW_SERIES

    cdef int grow(self, uint32_t room) except -1:
        """Make room for this many series; the new counts are 0."""
        cdef size_t buckets = self.bound_count + 1
        self.counts = <double *> longer(self.counts, self.room * buckets, room * buckets, sizeof(double))
        self.sums = <double *> longer(self.sums, self.room, room, sizeof(double))
        if self.has_examples:
            self.examples = <Example *> longer(self.examples, self.room * buckets, room * buckets, sizeof(Example))
        self.room = room
        return 0

    def add(self, bytes trace_id, list chunks, bint kept):
        """Count the spans of a trace. Only spans of a kept trace become exemplars."""
        cdef uint32_t number, count = self.walker.walk(chunks)
        cdef const char *example = NULL
        if kept and self.has_examples and PyBytes_GET_SIZE(trace_id) == TRACE_ID_BYTES:
            example = PyBytes_AS_STRING(trace_id)
        try:
            for number in range(count):
                self.count(self.walker.facts + number, example)
        finally:
            self.walker.forget()

    cdef int count(self, Fact *fact, const char *trace_id) except -1:
        cdef uint32_t number = self.number(fact), bucket
        cdef uint64_t duration_ns = duration_of(fact)
        cdef double weight = 1
        cdef size_t place
        if fact.trace_state.at != fact.trace_state.stop or fact.notes[0].at != NULL:
            weight = self.weight(fact)
        self.spans += 1
        place = <size_t> number * (self.bound_count + 1) + bucket_of(self, duration_ns)
        self.counts[place] += weight
        self.sums[number] += weight * <double> duration_ns
        if trace_id != NULL:
            self.examples[place].order = self.spans
            self.examples[place].span_id = fact.span_id
            self.examples[place].duration_ns, self.examples[place].end_ns = duration_ns, fact.end_ns
            memcpy(self.examples[place].trace_id, trace_id, TRACE_ID_BYTES)
        return 0

    cdef uint32_t number(self, Fact *fact) except? 0xFFFFFFFE:
        """The number of the span's series. The overflow series come first, by status."""
        cdef uint32_t number = self.series.number(fact.series, self.walker, fact)
        if number == OVERFLOW or number == NAMELESS:
            return fact.status if 0 <= fact.status < OVERFLOW_SERIES else 0
        if number + OVERFLOW_SERIES > <uint32_t> len(self.labels):  # a new series
            if number + OVERFLOW_SERIES > self.room:
                self.grow(self.room * 2)
            self.labels.append(self.series.names[number])
        return number + OVERFLOW_SERIES - 1

    cdef double weight(self, Fact *fact) except -1:
        if not same(self.last_state, &fact.trace_state) or not same(self.last_rate, &fact.notes[0]):
            self.last_state = bytes_of(&fact.trace_state)
            self.last_rate = bytes_of(&fact.notes[0])
            self.last_weight = weight_of_bytes(self.last_rate, self.last_state)
        return self.last_weight

    def point(self, uint32_t number):
        """The counts of series `number`."""
        cdef size_t first = <size_t> number * (self.bound_count + 1)
        cdef uint32_t bucket
        cdef list exemplars = []
        if number >= <uint32_t> len(self.labels):
            raise IndexError(number)
        counts = [<long long> rint(self.counts[first + bucket]) for bucket in range(self.bound_count + 1)]
        if self.has_examples:
            for bucket in range(self.bound_count + 1):
                if self.examples[first + bucket].order:
                    exemplars.append(exemplar(bucket, self.examples + first + bucket))
        return Point(counts, self.sums[number], exemplars)


cdef inline uint32_t bucket_of(SpanMetrics metrics, uint64_t duration_ns) noexcept nogil:
    """The first bucket whose bound is not below the duration."""
    cdef uint32_t low = 0, high = metrics.bound_count, middle
    while low < high:
        middle = (low + high) // 2
        if metrics.bounds[middle] < duration_ns:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline bint same(bytes last, Piece *piece):
    cdef Py_ssize_t size = piece.stop - piece.at
    return last is not None and PyBytes_GET_SIZE(last) == size and (
        size == 0 or memcmp(PyBytes_AS_STRING(last), piece.at, size) == 0
    )


cdef object exemplar(uint32_t bucket, Example *example):
    trace_id = PyBytes_FromStringAndSize(<const char *> example.trace_id, TRACE_ID_BYTES)
    span_id = PyBytes_FromStringAndSize(<const char *> &example.span_id, sizeof(uint64_t))
    return Exemplar(bucket, example.order, trace_id, span_id, example.duration_ns, example.end_ns)


cdef void *longer(void *items, size_t used, size_t room, size_t each) except NULL:
    """The array with room for `room` items; the new ones are 0."""
    items = realloc(items, room * each)
    if items == NULL:
        raise MemoryError
    memset(<uint8_t *> items + used * each, 0, (room - used) * each)
    return items
