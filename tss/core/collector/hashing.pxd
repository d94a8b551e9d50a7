# The C types of hashing.py, used when it is compiled.

cimport cython

cdef unsigned long long _PRIME
cdef unsigned long long _MASK


@cython.locals(byte="unsigned char")
cpdef unsigned long long fnv(unsigned long long state, bytes data)
