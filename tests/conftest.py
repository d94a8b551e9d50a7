"""Before anything of `tss` is imported: see `tests.interpreted`."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import tests.interpreted  # noqa: F401  # for its effect

# Both measure the machine: on a busy one an example waits longer than its 200 ms for a processor, now and then.
settings.register_profile("tss", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tss")


@pytest.fixture(scope="session", autouse=True)
def no_proxy() -> Iterator[None]:
    """What tests talk to is on this machine, whatever proxies its environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield
