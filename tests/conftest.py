"""Before anything of `tss` is imported: see `tests.interpreted`."""

import os
import random
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import tests.interpreted  # noqa: F401  # for its effect

# Both measure the machine: on a busy one an example waits longer than its 200 ms for a processor, now and then.
# EXAMPLES=10 in the environment tries fewer where a property does not say how many.
EXAMPLES = int(os.environ.get("EXAMPLES", "100"))
settings.register_profile("tss", deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tss")


@pytest.fixture(scope="session", autouse=True)
def no_proxy() -> Iterator[None]:
    """What tests talk to is on this machine, whatever proxies its environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With SHUFFLED=seed in the environment: the files in another order, and the tests of each. No test counts on one.

    A file stays together, since what it sets up is set up once; pytest-randomly and pytest-random-order do no more.
    """
    seed = os.environ.get("SHUFFLED")
    if not seed:
        return
    chance = random.Random(seed)
    files = [[*own] for _, own in groupby(items, key=_file_of)]
    chance.shuffle(files)
    for own in files:
        chance.shuffle(own)
    items[:] = [test for own in files for test in own]


def _file_of(item: pytest.Item) -> Path:
    return item.path
