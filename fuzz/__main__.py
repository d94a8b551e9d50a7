"""The differential fuzzer: `python -m fuzz --cases 10000000 --seed 1`.

Stops at the first difference, with what is needed to see it again: `python -m fuzz --again HEX CASE`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz.asking import program
from fuzz.comparing import (
    CASES,
    Counters,
    DivergenceError,
    Lineages,
    both_with,
    compare,
    compare_both,
    count,
    read,
    restate,
    rework,
    weigh,
)
from fuzz.making import Maker, mutated
from tss.core.otlp import Encoding

BATCH = 2000  # cases from one seed
OFFSPRING = 12  # mutations of one message; making one costs as much as comparing two
NEW_PROGRAM = 25  # cases that are asked the same
RARELY = 20  # one case in so many is also read, counted and rewritten, which takes the longest
POOL = 40  # random ids that a lineage sees again and again, beside those of the records
SECONDS_BETWEEN_LINES = 10


def batch(seed: str, bases: list[bytes]) -> int:
    """Compare on `BATCH` cases; how many of them were readable. Raises DivergenceError."""
    rng = Random(seed)
    maker = Maker(rng)
    lineages, counters, other, readable = Lineages(), Counters(), b"", 0
    both, asks = both_with(program(rng)), ""
    for number in range(BATCH):
        if number % (OFFSPRING + 1) == 0:
            base = rng.choice(bases) if bases and rng.random() < 0.2 else maker.message()
            value = base
        else:
            value = mutated(rng, base, other)
        if number % 97 == 0:
            lineages, other = Lineages(), base
        # Nearly all as protobuf: JSON's way to a message is the same for both.
        encoding = Encoding.AUTO if number % 50 == 0 else Encoding.OTLP_PROTO
        if number % NEW_PROGRAM == 0:
            drawn = program(rng)
            both, asks = both_with(drawn), "; ".join(ask.told for ask in drawn.asks)
        if rng.random() < 0.5:
            found = compare_both(value, both, encoding, asks)
        else:
            found = compare(value, rng.randrange(len(CASES)), encoding)
        readable += bool(found)
        if number % RARELY == 0:
            count(found)
            read(found)
            rework(found)
            weigh(found)
            restate(value)
            counters.add(found)
        if number % 200 == 0:
            counters.flush(rng.choice((0, 10**9, 10**10, 10**11)))
        for fragment in found:
            lineages.add(fragment.span_ids, fragment.missing)
        if number % 20 == 0:
            lineages.add(_ids(rng), _ids(rng))
    return readable


def _ids(rng: Random) -> bytes:
    return b"".join(rng.randrange(1, POOL + 1).to_bytes(8, "big") for _ in range(rng.randrange(8)))


def _run(job: tuple[str, list[bytes]]) -> int | str:
    """A batch in a process of its own: how many were readable, or what diverged."""
    seed, bases = job
    try:
        return batch(seed, bases)
    except DivergenceError as error:
        return f"seed {seed}: {error}"


def _bases(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    return [file.read_bytes()[:4096] for file in sorted(folder.rglob("*")) if file.is_file()]


def _jobs(options: argparse.Namespace) -> Iterator[tuple[str, list[bytes]]]:
    bases = _bases(options.corpus)
    for number in range(-(-options.cases // BATCH)):
        yield f"{options.seed}:{number}", bases


def run(options: argparse.Namespace) -> int:
    """The exit status: 1 after a divergence."""
    began = said = time.monotonic()
    done = readable = 0
    with multiprocessing.Pool(options.processes) as pool:
        for result in pool.imap_unordered(_run, _jobs(options)):
            if isinstance(result, str):
                print(result, flush=True)
                return 1
            done, readable = done + BATCH, readable + result
            now = time.monotonic()
            if now - said > SECONDS_BETWEEN_LINES:
                said = now
                print(f"{done:,} cases, {done / (now - began):,.0f} a second", flush=True)
    seconds = time.monotonic() - began
    print(f"{done:,} cases, {readable / done:.0%} of them readable, no difference; {done / seconds:,.0f} a second")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", default=str(time.time_ns()), help="the cases of a seed are always the same")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--corpus", type=Path, help="a folder with serialized traces to begin some cases from")
    parser.add_argument("--again", nargs=2, metavar=("HEX", "CASE"), help="one case only")
    options = parser.parse_args()
    if options.again:
        print(*compare(bytes.fromhex(options.again[0]), int(options.again[1])), sep="\n")
        return 0
    print(f"seed {options.seed}")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
