"""What `python -m bench --check` demands: the daemon's spans per CPU-second over the bare consumer's, at least."""

from __future__ import annotations

from bench.corpus import Corpus

RECORDS = 200_000  # with fewer, what a daemon does once (clients, tables, the last commit) is most of it
TRIES = 3  # a neighbour on the same cores costs CPU time, too: one good try is enough

FLOORS = {Corpus(8): 0.11}  # two thirds of what was measured on a shared machine: 0.16 to 0.21
