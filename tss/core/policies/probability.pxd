# The C types of probability.py, used when it is compiled.

cimport cython


@cython.locals(value="long long", at="Py_ssize_t")
cpdef long long randomness(bytes trace_id)
