"""`python -m tests.real.oracle` builds it, so that no test has to wait for that. Needs nothing but Python and its pip."""

from tests.real.oracle import binary

binary()
