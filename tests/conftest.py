"""Before anything of `tss` is imported: see `tests.interpreted`."""

from collections.abc import Iterator

import pytest

import tests.interpreted  # noqa: F401  # for its effect


@pytest.fixture(scope="session", autouse=True)
def no_proxy() -> Iterator[None]:
    """What tests talk to is on this machine, whatever proxies its environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield
