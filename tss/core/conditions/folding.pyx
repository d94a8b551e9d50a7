# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Folds facts in C. `Program.fold` does the same in Python, where the layout is described too."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t tss_little64(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value = __builtin_bswap64(value);
    #endif
        return value;
    }
    static inline void tss_put_little64(uint8_t *at, uint64_t value) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value = __builtin_bswap64(value);
    #endif
        memcpy(at, &value, 8);
    }
    """
    uint64_t get64 "tss_little64" (const uint8_t *at) noexcept nogil
    void put64 "tss_put_little64" (uint8_t *at, uint64_t value) noexcept nogil

cdef enum:  # the parts of facts
    PART_SPANS = 1
    PART_ROOT = 2
    PART_OT = 4
    PART_WINDOWS = 8

cdef enum:
    SAW_RV = 1
    RV_BYTES = 7
    ROOT_HEAD = 16  # start and id
    WINDOW_HEAD = 16  # minimum and maximum
    STAIR = 16
    MS = 1000000
    FEW_BYTES = 256  # up to so many bytes of facts are on the stack


cdef inline int64_t whole_ms(uint64_t low, uint64_t high) noexcept nogil:
    cdef int64_t start = <int64_t> low, end = <int64_t> high, found = <int64_t> (high - low)
    if (start < 0) != (end < 0) and (found < 0) != (end < 0):
        found = INT64_MIN if end < 0 else INT64_MAX
    return found / MS


cdef inline bint is_before(const uint8_t *one, const uint8_t *other) noexcept nogil:
    cdef uint64_t mine = get64(one), theirs = get64(other)
    return memcmp(one + 8, other + 8, 8) < 0 if mine == theirs else mine < theirs


cdef class Folder:
    """Folds the facts of one program. See `Program`."""

    def __cinit__(self, span_bytes, root_bytes, window_bytes, bytes firsts, bounds):
        self.span_bytes, self.root_bytes, self.window_bytes = span_bytes, root_bytes, window_bytes
        self.firsts = firsts
        self.shared = [b""] * SHARED
        self.windows = len(bounds)
        self.bounds = <Bounds *> calloc(len(bounds) or 1, sizeof(Bounds))
        if self.bounds == NULL:
            raise MemoryError
        for number, (threshold_ms, upper_ms) in enumerate(bounds):
            self.bounds[<uint32_t> number].threshold_ms, self.bounds[<uint32_t> number].upper_ms = threshold_ms, upper_ms

    def __dealloc__(self):
        free(self.bounds)

    cpdef bytes fold(self, bytes facts, bytes further):
        """The facts of a trace, to which a fragment came. Raises ValueError if any of both are of another program."""
        cdef uint8_t[FEW_BYTES] few
        cdef uint8_t *start = few
        cdef uint8_t *out
        cdef Layout mine, theirs
        cdef uint64_t room = 64 + self.span_bytes + self.root_bytes + self.window_bytes
        if not further or not self.windows and facts == further:
            return facts
        if not facts and not self.windows:
            return further
        self._lay_out(facts, &mine)
        self._lay_out(further, &theirs)
        if room > FEW_BYTES:
            start = <uint8_t *> malloc(room)
            if start == NULL:
                raise MemoryError
        start[0], out = 0, start + 1
        if mine.spans != NULL or theirs.spans != NULL:
            start[0] |= PART_SPANS
            out = self._fold_spans(&mine, &theirs, out)
        if mine.root != NULL or theirs.root != NULL:
            start[0] |= PART_ROOT
            if mine.root == NULL or theirs.root != NULL and is_before(theirs.root, mine.root):
                memcpy(out, theirs.root, ROOT_HEAD + self.root_bytes)
            else:
                memcpy(out, mine.root, ROOT_HEAD + self.root_bytes)
            out += ROOT_HEAD + self.root_bytes
        if mine.ot != NULL or theirs.ot != NULL:
            start[0] |= PART_OT
            out = fold_ot(mine.ot, theirs.ot, out)
        if mine.windows != NULL or theirs.windows != NULL:
            start[0] |= PART_WINDOWS
            out = self._fold_windows(&mine, &theirs, out)
        try:
            return self._made(facts, further, start, out - start)
        finally:
            if start != few:
                free(start)

    cdef int _lay_out(self, bytes facts, Layout *found) except -1:
        """Find the parts of facts."""
        cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(facts)
        cdef uint64_t size = PyBytes_GET_SIZE(facts), at = 1, stairs
        cdef uint8_t head = start[0]  # of b"" it is Python's zero at the end
        memset(found, 0, sizeof(Layout))
        if head & PART_SPANS:
            found.spans = start + at
            at += self.span_bytes
        if head & PART_ROOT:
            found.root = start + at
            at += ROOT_HEAD + self.root_bytes
        if head & PART_OT:
            found.ot = start + at
            at += 1 + RV_BYTES if at < size and start[at] & SAW_RV else 1
        if head & PART_WINDOWS:
            stairs = at + WINDOW_HEAD + self.window_bytes
            if stairs + 4 <= size:
                found.windows = start + at
                found.stairs = (
                    start[stairs] | <uint32_t> start[stairs + 1] << 8 | <uint32_t> start[stairs + 2] << 16
                    | <uint32_t> start[stairs + 3] << 24
                )
            at = stairs + 4 + <uint64_t> found.stairs * STAIR
        if head and at != size:
            raise ValueError(f"facts of another program: {size} bytes, not {at}")
        return 0

    cdef uint8_t *_fold_spans(self, Layout *mine, Layout *theirs, uint8_t *out) noexcept:
        cdef const uint8_t *firsts = <const uint8_t *> PyBytes_AS_STRING(self.firsts)
        cdef uint32_t place, one, two, trues, errors, settled
        for place in range(self.span_bytes):
            one = mine.spans[place] if mine.spans != NULL else 0
            two = theirs.spans[place] if theirs.spans != NULL else 0
            trues = (one | two) & 0x55
            errors = (one | two) & 0xAA & ~(trues << 1)
            settled = (one | one >> 1) & 0x55
            out[place] = (trues | errors) & ~<uint32_t> firsts[place] | (one | two & ~(settled * 3)) & firsts[place]
        return out + self.span_bytes

    cdef uint8_t *_fold_windows(self, Layout *mine, Layout *theirs, uint8_t *out) noexcept:
        cdef uint64_t low = 0, high = 0, start, end
        cdef uint8_t *bits = out + WINDOW_HEAD
        cdef const uint8_t *stair
        cdef uint32_t number, window
        cdef int64_t duration_ms
        memset(bits, 0, self.window_bytes + 4)
        if mine.windows != NULL:
            low, high = get64(mine.windows), get64(mine.windows + 8)
            memcpy(bits, mine.windows + WINDOW_HEAD, self.window_bytes)
        if theirs.windows != NULL:
            stair = theirs.windows + WINDOW_HEAD + self.window_bytes + 4
            for number in range(theirs.stairs):
                start, end = get64(stair), get64(stair + 8)
                stair += STAIR
                if low == 0 or start < low:
                    low = start
                if high == 0 or end > high:
                    high = end
                duration_ms = whole_ms(low, high)
                for window in range(self.windows):
                    if self.bounds[window].threshold_ms < duration_ms and (
                        not self.bounds[window].upper_ms or duration_ms <= self.bounds[window].upper_ms
                    ):
                        bits[window // 8] |= 1 << window % 8
        put64(out, low)
        put64(out + 8, high)
        return bits + self.window_bytes + 4

    cdef bytes _made(self, bytes facts, bytes further, const uint8_t *at, Py_ssize_t size):
        """These bytes as an object, if possible as one of those that exist."""
        cdef bytes known
        if at[0] == 0:
            return b""
        for known in (facts, further):
            if PyBytes_GET_SIZE(known) == size and memcmp(PyBytes_AS_STRING(known), at, size) == 0:
                return known
        return shared_facts(self.shared, at, size)


cdef uint8_t *fold_ot(const uint8_t *mine, const uint8_t *theirs, uint8_t *out) noexcept:
    cdef const uint8_t *first = mine if mine != NULL and mine[0] & SAW_RV else theirs
    out[0] = (mine[0] if mine != NULL else 0) | (theirs[0] if theirs != NULL else 0)
    if not out[0] & SAW_RV:
        return out + 1
    memcpy(out + 1, first + 1, RV_BYTES)
    return out + 1 + RV_BYTES
