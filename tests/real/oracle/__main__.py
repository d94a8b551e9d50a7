"""`python -m tests.real.oracle` builds it, so that no test has to wait for that. Needs nothing but Python and Go."""

from tests.real.oracle import binary

binary()
