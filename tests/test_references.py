"""The implementations in protobuf's words are fallbacks: where the modules are compiled, the daemon does not load them."""

import subprocess
import sys

import pytest

from tss.core.otlp import SCANNER

LOAD_ALL = """
import importlib, pkgutil, sys, tss
for module in pkgutil.walk_packages(tss.__path__, "tss."):
    if not module.name.endswith((".reference", ".__main__")):
        importlib.import_module(module.name)
print(*sorted(name for name in sys.modules if name.startswith("tss.")))
"""


@pytest.mark.skipif(SCANNER != "compiled", reason="nothing is compiled here: the fallbacks are what runs")
def test_no_module_loads_a_reference_where_the_compiled_one_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert {"tss.daemon", "tss.core.force.book", "tss.core.otlp.scanner"} <= {*loaded}
    assert [name for name in loaded if name.endswith(".reference")] == []
