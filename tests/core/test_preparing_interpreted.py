"""What prepares kept traces does the same where nothing is compiled."""

import os
import subprocess
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.otlp_records import damaged, records
from tests.core.test_compression import ON, in_chunks, traces
from tests.interpreted import ASKED
from tss.core.preparing import Preparation
from tss.core.weights import Weight

_PROGRAM = """
import sys, tests.interpreted
from tss.core.preparing import Preparation
from tss.core.otlp import cursor
from tss.core.weights import Weight
from tss.settings import SpanCompression
assert cursor.__file__.endswith(".py"), cursor.__file__
preparation = Preparation(SpanCompression(enabled=True))
for line in sys.stdin:
    print(preparation.prepare(bytes.fromhex(line), complete=True, weight=Weight(3 << 54, 7 << 53)))
"""


def test_compiled_and_interpreted_agree() -> None:
    payloads: list[bytes] = []

    def draw(strategy: st.SearchStrategy[bytes], examples: int) -> None:
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def keep(payload: bytes) -> None:
            payloads.append(payload)

        keep()

    draw(traces().map(lambda spans: in_chunks(spans * 2, 3)), 100)
    draw(st.one_of(records().map(lambda record: record.raw), damaged()), 40)
    preparation = Preparation(ON)
    weight = Weight(3 << 54, 7 << 53)
    ours = [str(preparation.prepare(payload, complete=True, weight=weight)) for payload in payloads]
    given_in = "".join(f"{payload.hex()}\n" for payload in payloads)
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=given_in, env=os.environ | {ASKED: "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines() == ours
    assert sum("compressed_spans=0" not in each for each in ours) > 20
    assert sum("ot=th:c" in each for each in ours) > 40
