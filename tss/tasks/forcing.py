"""Keeps the rulebook equal to the store: reads it when the store announces a change, and from time to time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import structlog
import trio

from tss.core import measures
from tss.core.decision import Verdict
from tss.core.documents import Stored
from tss.core.errors import Away
from tss.core.force import Rule, Rulebook
from tss.core.force.changes import Change, living
from tss.core.force.document import expiry, shown, stored
from tss.core.force.errors import RuleConflict, WrongRule
from tss.core.measures import Meter
from tss.state.documents import DocumentStore, Heard

log = structlog.get_logger()

TRIES = 10  # of a change, if another replica was quicker each time; people do not change rules ten at a time
GONE_NAMES = 200  # names of ended rules that stay in metrics, so that a last scrape finds them
LEAST_KEPT_SECS = 3600.0  # how long the store keeps an empty set of rules


class Forcing:
    """Copies the rules from the store to the rulebook, and changes of an operator to the store."""

    def __init__(
        self, book: Rulebook, store: DocumentStore, meter: Meter, clock: Callable[[], float] = time.time
    ) -> None:
        self._book = book
        self._store = store
        self._meter = meter
        self._clock = clock
        self._unreadable: set[tuple[str, bytes]] = set()  # logged already
        self._names: dict[str, None] = {}  # in metrics; the rules that ended first come first
        self._away = False
        self._changes = 0  # of this replica

    async def run(self, poll_secs: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Until cancelled; started after the first read. An announced change only says when to read: the store has the truth."""
        self._meter.watch(measures.FORCE_RULES, lambda: len(self._book.rules(self._clock())))
        await self._look()
        task_status.started()
        heard = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._store.listen, heard.set, name="force rules: listening")
            while True:
                with trio.move_on_after(poll_secs):
                    await heard.wait()
                await self._look()

    async def change(self, change: Change) -> None:
        """Make a change for all replicas; this one knows it at once. Raises the errors of the change, and Away."""
        for _ in range(TRIES):
            found = await self._store.read()
            now = self._clock()
            before = living(self._rules(found), now)
            after = change(before)
            latest = max((rule.expires for rule in after.values()), default=now)
            keep_secs = max(latest - now, 0) + LEAST_KEPT_SECS
            if await self._store.swap(found.version, self._written(found, before, after), keep_secs):
                self._changes += 1
                self._know(after.values())
                return
        raise RuleConflict("version", "the rules are being changed by others all the time; try again")

    async def _look(self) -> None:
        changes = self._changes
        try:
            found = await self._store.read()
        except Away as error:
            self._meter.count(measures.FORCE_READS, 1, "away")
            if not self._away:
                log.warning(
                    "force rules cannot be read from Redis; the known rules go on until they expire", reason=str(error)
                )
            self._away = True
            return
        self._away = False
        self._meter.count(measures.FORCE_READS, 1, "read")
        if changes == self._changes:  # else a change of ours came after this was read: the next look has the truth
            self._know(living(self._rules(found), self._clock()).values())

    def _know(self, rules: Iterable[Rule]) -> None:
        if self._book.replace(rules, self._clock()):
            known = self._book.rules(self._clock())
            log.info("force rules", rules=[f"{rule.action.value} {rule.name}" for rule in known if rule.enabled])
            self._name(known)

    def _name(self, known: Iterable[Rule]) -> None:
        """Metrics show rules by name. The number of names of ended rules must not grow without limit."""
        names = {rule.name for rule in known}
        for name in names:
            self._names.pop(name, None)
        while len(self._names) > GONE_NAMES:
            gone = next(iter(self._names))
            del self._names[gone]
            for verdict in Verdict:
                self._meter.forget(measures.FORCED, gone, verdict.value)
        self._names |= dict.fromkeys(names)

    def _rules(self, found: Stored) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}
        for rule_id, document in found.documents.items():
            try:
                rules[rule_id] = stored(json.loads(document))
            except (ValueError, RecursionError, WrongRule) as error:
                self._tell(rule_id, document, error)
        return rules

    def _tell(self, rule_id: str, document: bytes, error: Exception) -> None:
        if (rule_id, document) not in self._unreadable:
            log.error("a force rule in Redis cannot be read and has no effect", id=rule_id, reason=str(error))
            self._unreadable = {*list(self._unreadable)[:GONE_NAMES], (rule_id, document)}

    def _written(self, found: Stored, before: Mapping[str, Rule], after: Mapping[str, Rule]) -> dict[str, bytes]:
        """The rules to write. Unchanged rules keep their bytes. So do unreadable ones: a newer version of tss may have written
        them."""
        written = {
            rule_id: found.documents[rule_id] if before.get(rule_id) == rule else json.dumps(shown(rule)).encode()
            for rule_id, rule in after.items()
        }
        foreign = {
            rule_id: document
            for rule_id, document in found.documents.items()
            if rule_id not in before and expiry(document) > self._clock()
        }
        return foreign | written
