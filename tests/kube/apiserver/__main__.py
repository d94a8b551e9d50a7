"""`python -m tests.kube.apiserver` builds it, so that no test has to wait for that. Needs nothing but Python and its pip."""

from tests.kube.apiserver import binary

binary()
