"""`python -m tests.core.holding SPANS RECORDS MIB`: what the buffer says it holds, and what the process grew by.

A process of its own, since a heap that others have used gives back what they left.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from bench.corpus import Corpus
from tests.core.spans import scanned
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.memory import Memory
from tss.core.otlp import Scanner
from tss.core.packing import train
from tss.core.partition import Partition
from tss.edges import heap

PAGE_BYTES = 4096


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def main() -> None:
    """Prints traces decided early, bytes told, bytes taken, traces packed."""
    spans, records, mib = map(int, sys.argv[1:])
    heap.share_one_arena()
    buffer = Buffer(Limits(mib << 20, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home, scanner = Partition(0, 0, 10**9), Scanner()
    corpus = Corpus(spans)
    groups = corpus.groups(-(-records // corpus.group_records), 10**18)
    next(groups)  # the templates are made
    gc.collect()
    before, offset = resident(), 0
    for group in groups:
        for _, value in group.records:
            buffer.add(home, scanned(scanner, bytes(bytearray(value)), offset, 1000 + 2 * offset), 10**15)
            offset += 1
        samples = buffer.packer.samples()
        if samples:
            buffer.packer.use(train(samples))
    gc.collect()
    print(len(buffer.take()), buffer.held_bytes, resident() - before, buffer.take_counts().packed_traces)


if __name__ == "__main__":
    main()
