# Normalises SQL statements given as bytes.

from libc.stdint cimport uint8_t

cdef enum:
    MORE_ROOM = 8  # bytes by which the output can be longer than the input: a list that is cut off is closed
    NOT_HERE = -1  # only `sql.normalised` can read this statement

cdef Py_ssize_t without_values(const uint8_t *text, Py_ssize_t size, bint double_quoted, uint8_t *out) noexcept nogil
