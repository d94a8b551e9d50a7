import sys

from bench.collector import build
from bench.processes import BenchFailed

if __name__ == "__main__":
    try:
        build()
    except BenchFailed as failure:
        sys.exit(str(failure))
