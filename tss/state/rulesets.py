"""The rulesets that this replica knows, the one that is current, and who changed it when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.combining import Sampler
from tss.core.conditions.program import Program
from tss.core.measures import Meter
from tss.core.partition import Partition
from tss.core.ruleset import Change, Ruleset
from tss.core.timeline import NEVER
from tss.core.trace import Trace

log = structlog.get_logger()

MOST_CHANGES = 100  # in the history
MOST_KNOWN = 64  # rulesets


class Texts(Protocol):
    """Where the texts of rulesets are kept, so that another replica, or a later start, can read them."""

    async def get(self, fingerprint: str) -> str | None:
        """The text of this ruleset; None if it is not there, or if the store does not answer."""


@attrs.frozen
class Accepted:
    """The answer to a change. ``new``: the ruleset differs from the current one; else nothing was changed."""

    change: Change
    new: bool


class Rulesets:
    """All that are known. ``current`` decides what is read from now on; earlier ones decide what closed under them."""

    def __init__(
        self,
        first: Ruleset,
        change: Change,
        meter: Meter,
        texts: Texts | None = None,
        read: Callable[[str], Ruleset | None] = lambda _text: None,
    ) -> None:
        """``read`` makes a ruleset of a stored text; None if the text cannot be used here."""
        self.texts = texts
        """None: a ruleset that this replica has not seen stays unknown."""
        self.current = first
        self.known: dict[str, Ruleset] = {first.fingerprint: first}
        self.history: list[Change] = [change]
        self.program: Program = first.sampler.program
        """What the scanners have to answer. Other threads read it."""
        self._meter = meter
        self._read = read
        self._needed: Callable[[], Iterable[Partition]] = tuple
        self._news = trio.Event()
        self._watchers: list[Callable[[Change], None]] = []
        self._show()

    def __repr__(self) -> str:
        return f"<Rulesets {self.current.fingerprint} of {len(self.known)}, revision {self.revision}>"

    @property
    def revision(self) -> int:
        """The revision of the last change."""
        return self.history[-1].revision

    @property
    def programs(self) -> Mapping[str, Program]:
        """The programs whose facts can be read here, by fingerprint."""
        found = [self.program, *(each.sampler.program for each in self.known.values())]
        return {each.fingerprint: each for each in found}

    def accept(self, ruleset: Ruleset, change: Change) -> Accepted:
        """Use this ruleset from now on. It was validated before. The same ruleset as the current one is no change: only its
        revision may be newer."""
        if ruleset.fingerprint == self.current.fingerprint:
            if change.revision > self.revision:
                self._forget()
                self.history = [*self.history[:-1], change]
                self._show()
            return Accepted(self.history[-1], new=False)
        self._forget()
        self.current = self.known.setdefault(ruleset.fingerprint, ruleset)
        self.history = [*self.history[1 - MOST_CHANGES :], change]
        self.look()
        self._show()
        for watcher in self._watchers:
            watcher(change)
        return Accepted(change, new=True)

    def watch(self, callback: Callable[[Change], None]) -> None:
        """Call this after each change."""
        self._watchers.append(callback)

    def in_force(self, partition: Partition, second: int) -> Ruleset | None:
        """The ruleset that decides the traces that close at this second of the partition's log. None: it is not known."""
        return self.known.get(partition.rules.at(second))

    def choose(self, trace: Trace) -> Sampler | None:
        """The sampler for a closed trace. None: it is not known, and an earlier owner may have decided the trace by it.

        Records that an earlier owner has settled show that. A trace without them is decided by the current ruleset, because
        dropping it could lose what nobody has decided.
        """
        found = self.in_force(trace.home, trace.closed_second)
        if found is None:
            if trace.first_offset < trace.home.start and not trace.taken_over:
                return None
            found = self.current
        return found.sampler

    # -- for the assigned partitions

    def serve(self, partitions: Callable[[], Iterable[Partition]]) -> None:
        """These partitions need what their timelines name."""
        self._needed = partitions

    async def learn(self, fingerprints: Iterable[str]) -> None:
        """Look up the texts of rulesets that are not known here, as far as they can be had."""
        for fingerprint in fingerprints:
            if fingerprint in self.known or self.texts is None:
                continue
            text = await self.texts.get(fingerprint)
            found = None if text is None else self._read(text)
            if found is None:
                log.warning(
                    "a ruleset that decided earlier is not known here: traces that it may have decided, and that are read again, "
                    "follow the decisions that are remembered, or are dropped",
                    ruleset=fingerprint,
                )
            else:
                self.known[fingerprint] = found

    def look(self) -> None:
        """The timelines of the partitions have changed, or the current ruleset: see what is needed."""
        needed = dict.fromkeys([self.current.fingerprint])
        for partition in self._needed():
            needed |= dict.fromkeys(fingerprint for _, fingerprint in partition.rules.entries)
            last = self.known.get(partition.rules.last)
            partition.sampler = None if last is None else last.sampler
            partition.sampler_from = partition.rules.entries[-1][0] if last is not None else NEVER
        # Traces of a partition that is revoked may still be decided, so what is not needed is not forgotten at once.
        used = [self.known[name] for name in needed if name in self.known]
        while len(self.known) > max(MOST_KNOWN, len(used)):
            del self.known[next(name for name in self.known if name not in needed)]
        self._join_programs(used)
        self._news.set()
        self._news = trio.Event()

    def _join_programs(self, used: Iterable[Ruleset]) -> None:
        """Ask for all that these rulesets ask. A program that asks the same as before stays."""
        current = self.current.sampler.program
        asks = {ask.told: ask for ask in current.asks}
        for each in used:
            asks |= {ask.told: ask for ask in each.sampler.program.asks if ask.told not in asks}
        if self.program.asked == asks.keys():
            return
        self.program = current if len(asks) == len(current.asks) else Program(tuple(asks.values()))

    async def wait(self) -> None:
        """Until `look` is called."""
        await self._news.wait()

    def _show(self) -> None:
        self._meter.set(measures.RULESET_INFO, 1, self.current.fingerprint, str(self.revision))

    def _forget(self) -> None:
        self._meter.forget(measures.RULESET_INFO, self.current.fingerprint, str(self.revision))
