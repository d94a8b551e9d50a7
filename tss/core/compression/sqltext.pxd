# Statements without their values, for whoever has them as bytes.

from libc.stdint cimport uint8_t

cdef enum:
    MORE_ROOM = 8  # what comes out may be so many bytes longer than what goes in: a list that is cut off is closed
    NOT_HERE = -1  # this text is for `sql.normalised`

cdef Py_ssize_t without_values(const uint8_t *text, Py_ssize_t size, bint double_quoted, uint8_t *out) noexcept nogil
