# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled concentrator: it counts spans in the bytes that arrived, with two table lookups per span.

For the same spans it counts the same as `reference`. Python code runs only for a new series, for a trace with a weight of
its own, and when the groups are taken.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport floor, log
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from tss.core.formats.apm_stats.hashing cimport fold
from tss.core.formats.apm_stats.resources cimport Resources
from tss.core.formats.apm_stats.series cimport NAMELESS, OVERFLOW, SeriesNumbers
from tss.core.formats.apm_stats.walk cimport NOBODY, Fact, Piece, Walker, bytes_of, duration_of, is_known

from tss.core.formats.apm_stats import groups as grouping
from tss.core.formats.apm_stats import sketch as sketches

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t tss_weighted(uint64_t value, uint64_t weight, uint64_t one, uint64_t most) {
        unsigned __int128 product = ((unsigned __int128) value * weight + one / 2) / one;
        return product > most ? most : (uint64_t) product;
    }
    """
    uint64_t weighted "tss_weighted" (uint64_t value, uint64_t weight, uint64_t one, uint64_t most) noexcept nogil

cdef enum:
    FIRST_GROUPS = 256
    STEP_BINS = 32  # a sketch grows by this many bins; the durations of most series fit into a few such steps
    MOST_SERVICES = 4096
    ERROR = 2  # Status.STATUS_CODE_ERROR
    PLAIN_MEASURED = 18  # bytes of the attribute `_dd.measured` with a small integer
    PAIR_BYTES = 16  # of a serialized bin, at most

cdef uint64_t ONE = grouping.ONE
cdef uint64_t MOST = grouping.MAX_INT64
cdef uint64_t BUCKET_NS = grouping.BUCKET_NS
cdef uint64_t OLDEST_NS = grouping.OLDEST_NS
cdef double MULTIPLIER = sketches.MULTIPLIER
cdef const char *MEASURED = b"\x12\x02\x18\x01"  # the serialized value of `_dd.measured`: the integer 1
cdef object weight_of = grouping.weight
cdef object is_measured = grouping.is_measured


cdef struct Sketch:
    uint32_t *bins
    int32_t first  # the number of bins[0], a multiple of STEP_BINS
    uint32_t room
    uint64_t zeros


cdef struct Counts:  # of one group, in units of 1 / ONE
    uint64_t bucket  # the start of the bucket, in ns
    uint32_t series
    uint32_t root
    uint64_t hits
    uint64_t errors
    uint64_t tops
    uint64_t duration_ns
    Sketch[2] sketches  # of spans without and with an error


cdef inline uint64_t added(uint64_t one, uint64_t other) noexcept nogil:
    return one + other if one + other < MOST else MOST  # both are below 2 ** 63


cdef inline bint equal(Piece *one, Piece *other) noexcept nogil:
    cdef Py_ssize_t size = one.stop - one.at
    return other.stop - other.at == size and (size == 0 or memcmp(one.at, other.at, size) == 0)


# Sketches -----------------------------------------------------------------------------------------------------------


cdef inline int32_t bin_of(uint64_t duration) noexcept nogil:
    return <int32_t> floor(log(<double> duration) * MULTIPLIER)


cdef inline bint has_room(Sketch *sketch, int32_t number) noexcept nogil:
    return number >= sketch.first and number < sketch.first + <int32_t> sketch.room


cdef int64_t widen(Sketch *sketch, int32_t number) except -1:
    """Make room for a bin. Returns the number of bytes added."""
    cdef int32_t first = number // STEP_BINS * STEP_BINS, stop = first + STEP_BINS
    cdef uint32_t *bins
    cdef int64_t growth
    if sketch.room:
        first = min(first, sketch.first)
        stop = max(stop, sketch.first + <int32_t> sketch.room)
    bins = <uint32_t *> calloc(stop - first, sizeof(uint32_t))
    if bins == NULL:
        raise MemoryError
    if sketch.room:
        memcpy(bins + (sketch.first - first), sketch.bins, sketch.room * sizeof(uint32_t))
    free(sketch.bins)
    growth = (stop - first - <int64_t> sketch.room) * sizeof(uint32_t)
    sketch.bins, sketch.first, sketch.room = bins, first, stop - first
    return growth


cdef inline uint8_t *put_varint(uint8_t *at, uint64_t value) noexcept nogil:
    while value > 0x7F:
        at[0] = value & 0x7F | 0x80
        value >>= 7
        at += 1
    at[0] = value
    return at + 1


cdef inline uint8_t *put_double(uint8_t *at, double value) noexcept nogil:
    memcpy(at, &value, 8)
    return at + 8


cdef bytes encoded(Sketch *sketch, bytes opening):
    """The same bytes as `sketch.encode`."""
    cdef uint32_t number, used = 0
    cdef bytes pairs
    cdef uint8_t *at
    cdef uint8_t *key
    cdef uint8_t *start
    cdef uint8_t[16] head
    for number in range(sketch.room):
        used += sketch.bins[number] != 0
    pairs = PyBytes_FromStringAndSize(NULL, used * PAIR_BYTES)
    start = at = <uint8_t *> PyBytes_AS_STRING(pairs)
    for number in range(sketch.room):
        if sketch.bins[number]:
            at[0], at[2] = 0x0A, 0x08
            key = at + 3
            key = put_varint(key, <uint64_t> (sketch.first + <int32_t> number) << 1)
            at[1] = key - at + 7
            key[0] = 0x11
            at = put_double(key + 1, sketch.bins[number])
    pairs = pairs[:at - start]
    if used:
        head[0] = 0x12
        at = put_varint(head + 1, len(pairs))
        pairs = opening + (<char *> head)[:at - head] + pairs
    else:
        pairs = opening
    if sketch.zeros:
        head[0] = 0x21
        put_double(head + 1, sketch.zeros)
        pairs += (<char *> head)[:9]
    return pairs


# Groups -------------------------------------------------------------------------------------------------------------


cdef class Concentrator:
    """The same as `reference.Concentrator`, compiled."""

    cdef Walker walker
    cdef Resources series
    cdef SeriesNumbers services
    cdef Counts *items
    cdef uint32_t used
    cdef uint32_t room
    cdef uint32_t *index  # a hash table of groups by bucket, series and root: number + 1, or 0
    cdef uint32_t index_room
    cdef uint64_t newest  # start of the newest bucket that Datadog accepts, in ns
    cdef uint64_t oldest
    cdef uint64_t sketch_bytes
    cdef uint64_t most_bytes
    cdef bytes opening
    cdef readonly uint64_t spans
    cdef readonly uint64_t counted
    cdef readonly uint64_t unreadable
    cdef readonly uint64_t overflowed

    def __cinit__(self, now_ns, max_series=grouping.MAX_SERIES, max_bytes=grouping.MAX_BYTES):
        self.walker = Walker(
            grouping.KEYS, grouping.KEYS, prefixes=grouping.PREFIXES, service_keys=grouping.SERVICE_KEYS,
            notes=grouping.NOTES, texts=grouping.TEXTS, resource=grouping.around_of,
        )
        self.series = Resources(grouping.OVERFLOW, max_series, max_bytes // 2)
        self.services = SeriesNumbers(grouping.service_of, "", MOST_SERVICES)
        self.most_bytes = max_bytes
        self.opening = sketches.OPENING
        self.tick(now_ns)
        self.empty()

    def __dealloc__(self):
        self.release()
        free(self.items)
        free(self.index)

    def __repr__(self):
        return f"<Concentrator {self.groups} groups, {self.held_bytes} bytes>"

    @property
    def groups(self):
        return self.used

    @property
    def held_bytes(self):
        return self.size()

    @property
    def misses(self):
        """How often Python had to read a span since the last `take`."""
        return self.series.misses

    cdef uint64_t size(self) noexcept:
        return self.sketch_bytes + self.used * sizeof(Counts) + self.series.text_bytes

    def tick(self, now_ns):
        """Set the current time."""
        self.newest = now_ns - now_ns % BUCKET_NS
        self.oldest = self.newest - OLDEST_NS if self.newest > OLDEST_NS else 0

    cpdef add(self, bytes trace_id, list chunks, bint kept):
        """Count the spans of one trace, or late spans of it. A span that occurs twice counts once."""
        cdef Walker walker = self.walker
        cdef uint32_t number
        cdef Fact *fact
        cdef Fact *parent
        cdef Fact *first
        cdef bint top
        cdef uint64_t usual
        self.spans += walker.walk(chunks)
        if walker.count == 0:
            return
        walker.relate()
        if len(self.services.names) > MOST_SERVICES:  # these numbers are compared within one trace only
            self.services.clear()
        first = walker.facts + self.lead()
        usual = self.weight(first) or ONE
        for number in range(walker.count):
            fact = walker.facts + number
            if fact.again:
                continue
            top = fact.parent == NOBODY
            if not top:
                parent = walker.facts + fact.parent
                top = fact.service != parent.service and self.service(fact) != self.service(parent)
            if top or fact.kind >= 2 and fact.kind <= 5 or fact.notes[1].at != NULL and measured(&fact.notes[1]):
                if same_weight(fact, first):
                    self.count(fact, usual, top)
                else:
                    self.count(fact, self.weight(fact) or usual, top)
        walker.forget()

    cdef uint32_t lead(self) noexcept:
        """The number of the root; without a root, of the first span whose parent is missing."""
        cdef uint32_t number
        for number in range(self.walker.count):
            if self.walker.facts[number].parent_id == 0:
                return number
        for number in range(self.walker.count):
            if self.walker.facts[number].parent == NOBODY:
                return number
        return 0

    cdef uint64_t weight(self, Fact *fact) except? 0xFFFFFFFFFFFFFFFF:
        """The span's weight; 0 if it gives none."""
        if fact.trace_state.at == NULL and fact.notes[0].at == NULL:
            return 0
        return weight_of(bytes_of(&fact.trace_state), bytes_of(&fact.notes[0]))

    cdef uint32_t service(self, Fact *fact) except? 0xFFFFFFFE:
        return self.services.number(fact.service, self.walker, fact)

    cdef int count(self, Fact *fact, uint64_t weight, bint top) except -1:
        cdef uint32_t series = self.series.number(self.walker, fact)
        cdef uint64_t duration = duration_of(fact), bucket = self.newest
        cdef bint failed = fact.status == ERROR
        cdef int32_t place = 0
        cdef Counts *group
        cdef Sketch *sketch
        if series == NAMELESS:
            self.unreadable += 1
            return 0
        self.counted += 1
        if is_known(fact.start_ns):
            bucket = fact.start_ns + duration
        elif is_known(fact.end_ns):
            bucket = fact.end_ns
        bucket -= bucket % BUCKET_NS
        if duration:
            place = bin_of(duration)
        bucket = min(max(bucket, self.oldest), self.newest)
        group = self.room_for(bucket, series, fact.parent_id == 0, failed, duration, place)
        group.hits = added(group.hits, weight)
        group.duration_ns = added(group.duration_ns, weighted(duration, weight, ONE, MOST))
        if failed:
            group.errors = added(group.errors, weight)
        if top:
            group.tops = added(group.tops, weight)
        sketch = &group.sketches[1] if failed else &group.sketches[0]
        if duration == 0:
            sketch.zeros += 1
        elif sketch.bins[place - sketch.first] != 0xFFFFFFFF:
            sketch.bins[place - sketch.first] += 1
        return 0

    cdef Counts *room_for(
        self, uint64_t bucket, uint32_t series, bint root, bint failed, uint64_t duration, int32_t place
    ) except NULL:
        """The group, with room in its sketch. If there is no room, the bucket's overflow group, which may always grow."""
        cdef Counts *group = NULL
        cdef bint full = self.size() >= self.most_bytes
        if series != OVERFLOW:
            group = self.group(bucket, series, root, not full)
            if group != NULL and full and duration and not has_room(&group.sketches[failed], place):
                group = NULL
        if group == NULL:
            self.overflowed += 1
            group = self.group(bucket, OVERFLOW, False, True)
        if duration and not has_room(&group.sketches[failed], place):
            self.sketch_bytes += widen(&group.sketches[failed], place)
        return group

    cdef Counts *group(self, uint64_t bucket, uint32_t series, bint root, bint make) except? NULL:
        """The group of this key. If there is none: a new one if `make`, else NULL."""
        cdef uint32_t slot = self.slot(bucket, series, root)
        cdef Counts *group
        if self.index[slot]:
            return self.items + self.index[slot] - 1
        if not make:
            return NULL
        if self.used == self.room:
            self.grow()
            slot = self.slot(bucket, series, root)
        group = self.items + self.used
        memset(group, 0, sizeof(Counts))
        group.bucket, group.series, group.root = bucket, series, root
        self.used += 1
        self.index[slot] = self.used
        return group

    cdef uint32_t slot(self, uint64_t bucket, uint32_t series, bint root) noexcept:
        """The group's slot in the index, or the free slot where it belongs."""
        cdef uint32_t slot = fold(bucket ^ <uint64_t> series << 1 ^ root, 0x9E3779B97F4A7C15u) % self.index_room
        cdef Counts *group
        while self.index[slot]:
            group = self.items + self.index[slot] - 1
            if group.bucket == bucket and group.series == series and group.root == <uint32_t> root:
                break
            slot += 1
            if slot == self.index_room:
                slot = 0
        return slot

    cdef int grow(self) except -1:
        """Double the room for groups, and rebuild the index."""
        cdef uint32_t number, slot
        cdef Counts *items = <Counts *> realloc(self.items, <size_t> self.room * 2 * sizeof(Counts))
        if items == NULL:
            raise MemoryError
        self.items = items
        self.room *= 2
        free(self.index)
        self.make_index()
        for number in range(self.used):
            slot = self.slot(items[number].bucket, items[number].series, items[number].root)
            self.index[slot] = number + 1
        return 0

    cdef int make_index(self) except -1:
        self.index_room = self.room * 2
        self.index = <uint32_t *> calloc(self.index_room, sizeof(uint32_t))
        if self.index == NULL:
            raise MemoryError
        return 0

    cdef void release(self) noexcept:
        """Free all sketches."""
        cdef uint32_t number
        for number in range(self.used):
            free(self.items[number].sketches[0].bins)
            free(self.items[number].sketches[1].bins)
        self.used = 0
        self.sketch_bytes = 0

    cdef int empty(self) except -1:
        """Remove all groups and free their memory."""
        self.release()
        free(self.items)
        free(self.index)
        self.index = NULL
        self.room = FIRST_GROUPS
        self.items = <Counts *> calloc(self.room, sizeof(Counts))
        if self.items == NULL:
            raise MemoryError
        self.make_index()
        self.series.rest()
        return 0

    def take(self, now_ns):
        """The groups counted since the last call. The counters start again from zero."""
        cdef uint32_t number
        cdef Counts *group
        cdef list found = []
        self.tick(now_ns)
        for number in range(self.used):
            group = self.items + number
            name, root = self.series.name_of(group.series), group.root != 0
            start = min(max(group.bucket, self.oldest), self.newest)
            totals = grouping.made_whole(start, name, root, (group.hits, group.errors, group.tops))
            ok, error = encoded(&group.sketches[0], self.opening), encoded(&group.sketches[1], self.opening)
            found.append(grouping.GroupedStats(start, name, root, *totals, group.duration_ns, ok, error))
        self.empty()
        return found


cdef inline bint same_weight(Fact *one, Fact *other) noexcept nogil:
    return equal(&one.trace_state, &other.trace_state) and equal(&one.notes[0], &other.notes[0])


cdef bint measured(Piece *attribute) except -1:
    if attribute.stop - attribute.at == PLAIN_MEASURED and attribute.at[0] == 0x0A:  # nearly all libraries write it this way
        return memcmp(attribute.stop - 4, MEASURED, 4) == 0
    return is_measured(bytes_of(attribute))
