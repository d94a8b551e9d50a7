# Which series a span is of, where its resource has values in it: see resources.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from tss.core.formats.apm_stats.series cimport HashTable
from tss.core.formats.apm_stats.walk cimport Fact, Piece, Walker


cdef struct Template:  # what spans have in common that differ in nothing but their texts
    uint32_t frame  # its number; 0 if there was no room for it
    uint32_t series  # if its resource is made of no text
    uint32_t before  # which of `before` stands before the text
    uint8_t source
    uint8_t making


cdef struct Lately:
    uint64_t series  # Fact.series; 0 is none
    uint32_t number


cdef class Resources:
    cdef HashTable templates  # by Fact.bare
    cdef HashTable series  # by frame and resource
    cdef HashTable others  # by Fact.series: of spans whose texts only Python can read
    cdef Template *items
    cdef uint32_t used
    cdef uint32_t room
    cdef dict befores  # numbers by what stands before a text: "GET " before a route
    cdef list before
    cdef uint8_t *whole  # what stands before a text, and the text
    cdef uint8_t *scratch
    cdef Lately *lately  # what spans came to, by the last bits of Fact.series
    cdef dict frames  # numbers by Name less its resource
    cdef list shapes  # those Names, by number
    cdef list names  # by number of a series: that of its frame, and its resource
    cdef object overflow
    cdef readonly uint32_t most
    cdef readonly uint64_t most_bytes
    cdef readonly uint64_t text_bytes  # of the names, about
    cdef readonly uint64_t misses  # times that Python had to look at a span, since the last `rest`
    cdef uint64_t vain  # of these, once there was no room

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
