"""The compiled part of the package: a scanner written for it, and modules of Python with their C types beside them.

Without a C compiler, or with TSS_BUILD=python, everything is interpreted instead: the same decisions, slower.
"""

import os
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Each has its C types in a .pxd of the same name; interpreted it is plain Python.
TYPED = (
    "core/buffer",
    "core/collector/hashing",
    "core/collector/sampler",
    "core/collector/votes",
    "core/combining",
    "core/compression/outline",
    "core/conditions/program",
    "core/decision_log",
    "core/decision_rows",
    "core/duplicates",
    "core/evaluation",
    "core/firstmet",
    "core/holds",
    "core/judging",
    "core/ledger",
    "core/memory",
    "core/names",
    "core/opentraces",
    "core/otlp/counts",
    "core/otlp/cursor",
    "core/otlp/rewriting",
    "core/otlp/tracestates",
    "core/partition",
    "core/shared_decisions",
    "core/progress",
    "core/replay",
    "core/policies/errors",
    "core/policies/latency",
    "core/policies/matching",
    "core/policies/policy",
    "core/policies/probability",
    "core/policies/rest",
    "core/routing",
    "core/streamtime",
    "core/table",
    "core/tally",
    "core/trace",
    "core/verdicts",
    "edges/kafka/records",
)
# Written for the compiler. In Python `core/otlp/reference.py` and `tracestates.py`, the `reference.py` of both counters,
# `core/compression/sql.py` and `edges/signals.py` stand in for them.
CYTHON = (
    "core/compression/sqltext",
    "core/conditions/folding",
    "core/otlp/answering",
    "core/otlp/leaves",
    "core/otlp/lineage",
    "core/otlp/memo",
    "core/otlp/parts",
    "core/otlp/protobuf",
    "core/otlp/records",
    "core/otlp/restating",
    "core/otlp/scanner",
    "core/otlp/values",
    "core/formats/spanmetrics/counting",
    "core/formats/apm_stats/concentrator",
    "core/formats/apm_stats/resources",
    "core/formats/apm_stats/series",
    "core/formats/apm_stats/walk",
    "edges/deadline",
)


def extensions() -> list[Extension]:
    """What to compile."""
    if os.environ.get("TSS_BUILD") == "python":
        return []
    from Cython.Build import cythonize  # noqa: PLC0415  # not needed where nothing is compiled

    sources = [Path("tss", f"{name}.pyx") for name in CYTHON] + [Path("tss", f"{name}.py") for name in TYPED]
    optimised = (
        [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]
    )  # whoever asks for less compiles in a fifth of the time
    modules = [
        Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=optimised)
        for source in sources
    ]
    return cythonize(
        modules,
        build_dir="build/cython",
        # The annotations are mypy's: their int is not C's.
        compiler_directives={"language_level": 3, "annotation_typing": False},
    )


class AllOrNothing(build_ext):
    """A missing compiler is a slower program and no failure; but modules that are compiled need each other's."""

    def finalize_options(self) -> None:
        """As many at a time as there are processors, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        """Build all, or leave none behind, not even an older one."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001  # whatever the compiler, or its absence, may raise
            warnings.warn(f"nothing is compiled, so tss will be several times slower: {error}", stacklevel=1)
            for module in self.extensions:
                for path in (Path(self.get_ext_fullpath(module.name)), Path(*module.name.split("."))):
                    for built in path.parent.glob(f"{path.name.split('.')[0]}.*.so"):
                        built.unlink()
            self.extensions = []


setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNothing})
