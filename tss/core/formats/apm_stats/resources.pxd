# The number of a span's series if its resource contains values: see resources.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from tss.core.formats.apm_stats.series cimport HashTable
from tss.core.formats.apm_stats.walk cimport Fact, Piece, Walker


cdef struct Template:  # the common part of spans that differ only in their texts
    uint32_t frame  # number of the name without its resource; 0 if there was no room for it
    uint32_t series  # the series, if the resource contains no text
    uint32_t before  # number of the part before the text
    uint8_t source
    uint8_t making


cdef struct Lately:
    uint64_t series  # Fact.series; 0 is an empty entry
    uint32_t number


cdef class Resources:
    cdef HashTable templates  # by Fact.bare
    cdef HashTable series  # by frame and resource
    cdef HashTable others  # by Fact.series, for spans whose texts only Python can read
    cdef Template *items
    cdef uint32_t used
    cdef uint32_t room
    cdef dict befores  # numbers of the parts before a text, such as "GET " before a route
    cdef list before
    cdef uint8_t *whole  # scratch space for the part before a text and the text
    cdef uint8_t *scratch
    cdef Lately *lately  # a cache of series numbers, by the last bits of Fact.series
    cdef dict frames  # numbers by Name without its resource
    cdef list shapes  # Names without their resource, by number of the frame
    cdef list names  # (number of the frame, resource) by number of the series
    cdef object overflow
    cdef readonly uint32_t most
    cdef readonly uint64_t most_bytes
    cdef readonly uint64_t text_bytes  # an estimate of the names' size
    cdef readonly uint64_t misses  # how often Python had to read a span since the last `rest`
    cdef uint64_t vain  # misses while there was no room

    cdef uint32_t number(self, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t template(self, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t by_text(self, Template *template, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t by_python(self, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t number_before(self, bytes text) except? 0xFFFFFFFE
    cdef Py_ssize_t join(self, bytes before, const uint8_t *text, Py_ssize_t size) noexcept
    cdef uint32_t frame(self, name) except? 0xFFFFFFFE
    cdef uint32_t entered(self, uint32_t frame, const uint8_t *text, Py_ssize_t size) except? 0xFFFFFFFE
    cdef object name_of(self, uint32_t number)
    cdef bint is_full(self) noexcept
    cdef void missed(self) noexcept
    cdef bint is_tired(self) noexcept
    cdef int rest(self) except -1
    cdef int clear(self) except -1
