"""Where everything is interpreted there is one implementation only: what compares two is left out."""

import os

from tests.interpreted import ASKED

OF_BOTH = [
    "test_apm_stats_walk.py",
    "test_otlp_differential.py",
    "test_otlp_lineage.py",
    "test_otlp_reading.py",
    "test_otlp_scan.py",
    "test_otlp_values.py",
    "test_preparing_interpreted.py",
    "test_spanmetrics_differential.py",
]

collect_ignore = OF_BOTH if os.environ.get(ASKED) else []
