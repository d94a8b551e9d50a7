"""`python -m tests.oracles.otel` builds it, so that no test has to wait for that. Needs nothing but Python and its pip."""

from tests.oracles.otel import binary

binary()
