"""Brings changed policies into use: from the settings file, from an operator's request, and from other replicas."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn, Protocol

import attrs
import structlog
import trio

from tss.core import measures
from tss.core.differences import differences
from tss.core.documents import Stored
from tss.core.errors import Away
from tss.core.health import Health
from tss.core.idle_policies import IdlePolicies
from tss.core.measures import Meter
from tss.core.policy_errors import NoSuchRevision, NotShared, PoliciesRefused, StalePolicies, WrongPolicies
from tss.core.policy_history import MAX_TEXT_BYTES, PolicyHistory, read_history
from tss.core.ruleset import Change, Ruleset
from tss.state.documents import DocumentStore, Heard

log = structlog.get_logger()

COMPONENT = "policies"  # in /health
TRIES = 10  # of a change, if another replica was quicker each time
WATCH_SECS = 1.0  # between two looks at the settings file; it is read once two looks find the same content
POLL_SECS = 5.0  # between two reads of the store, in case an announcement was lost
KEEP_SECS = 90 * 86_400.0  # how long the store keeps the history after its last use
RENEW_SECS = 86_400.0  # how often a replica begins this time anew

MAX_REFUSAL = 1000  # characters of a refusal in /health

START, FILE, SIGNAL, API, REDIS, ROLLBACK = "start", "file", "signal", "api", "redis", "rollback"  # sources of changes
ACCEPTED, UNCHANGED, REFUSED, UNREACHED = "accepted", "unchanged", "refused", "away"  # outcomes


class InForce(Protocol):
    """The rulesets of this daemon (`state/rulesets`)."""

    @property
    def current(self) -> Ruleset:
        """The newest ruleset."""

    def accept(self, ruleset: Ruleset, change: Change) -> object:
        """Bring a ruleset into use, from a place in each partition on."""


class Texts(Protocol):
    """The texts of rulesets by fingerprint. Every call raises Away if the store does not answer."""

    async def get(self, fingerprint: str) -> str | None:
        """The text; None if it is not known."""

    async def put(self, fingerprint: str, text: str) -> None:
        """Store the text."""


@attrs.frozen
class LoadedFile:
    """What a settings file says, as far as it can change while the daemon runs."""

    ruleset: Ruleset
    needs_restart: Sequence[str] = ()  # the keys of other settings that differ from those of the start


class SettingsFile(Protocol):
    """The settings file of this daemon, together with its environment."""

    async def content(self) -> bytes | None:
        """Something that differs if the file's content differs. None if there is no file to look at."""

    async def load(self) -> LoadedFile:
        """Read the file. What takes effect at once and is no policy (the log level) is in effect then. Raises WrongPolicies."""


@attrs.frozen
class Unpublished:
    """The file's policies, which the store does not have yet: from where, and when the file was changed."""

    source: str
    changed_at: float


class Reloading:
    """The policies of this daemon, and their history. One change is made after the other."""

    def __init__(
        self,
        *,
        rulesets: InForce,
        store: DocumentStore,
        texts: Texts,
        shared: bool,
        file: SettingsFile,
        make: Callable[[str], Awaitable[Ruleset]],
        name: str,
        meter: Meter,
        health: Health,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``make`` reads a text of policies, and raises WrongPolicies. ``shared``: other replicas use the same store. ``name`` is
        this replica's. The rulesets begin with those of the settings file."""
        self.history = PolicyHistory()
        self.shared = shared
        self.file_ruleset = rulesets.current
        self._rulesets, self._store, self._texts = rulesets, store, texts
        self._file, self._make, self._name = file, make, name
        self._meter, self._health, self._clock = meter, health, clock
        self._turn = trio.Lock()
        self._troubles: dict[str, str] = {}  # by source: why the last change from there was refused
        self._refused = 0  # the revision in the store that this replica cannot use
        self._unpublished: Unpublished | None = None
        self._renew_at = 0.0
        self._away = False
        self._restart_keys: Sequence[str] = ()
        self._last_refusal = ""  # of a request
        self.unmatched = IdlePolicies()
        health.up(COMPONENT)
        health.particulars[COMPONENT] = self.particulars

    def __repr__(self) -> str:
        return f"<Reloading {self.current.fingerprint} at revision {self.history.revision}>"

    @property
    def current(self) -> Ruleset:
        """The newest ruleset."""
        return self._rulesets.current

    def particulars(self) -> Mapping[str, object]:
        """What /health shows of the policies."""
        last, now = self.history.current, self.current.fingerprint
        known = {} if last is None or last.fingerprint != now else {"source": last.source, "who": last.who}
        shown: dict[str, object] = {"fingerprint": now, "revision": self.history.revision, **known}
        if self.file_ruleset.fingerprint != now:
            shown["file"] = "the settings file has other policies, which are older"
        if self._last_refusal:
            shown["last_refused_request"] = self._last_refusal
        if self.unmatched.idle:
            shown["matched_nothing_for_a_day"] = self.unmatched.idle
        if self._restart_keys:
            shown["needs_restart"] = ", ".join(self._restart_keys)
        return shown

    # -- tasks

    async def begin(self, changed_at: float = 0.0) -> None:
        """The policies to start with: those of the file, unless the store has newer ones. ``changed_at``: of the file."""
        async with self._turn:
            self._unpublished = Unpublished(START, changed_at)
            await self._guarded(self._publish_file(self._unpublished), START)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Until cancelled: look at the file and at the store."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_file, name="policies: file")
            heard = Heard()
            nursery.start_soon(self._store.listen, heard.set, name="policies: listening")
            while True:
                with trio.move_on_after(POLL_SECS):
                    await heard.wait()
                await self.look()

    async def _watch_file(self) -> None:
        """A file that is being written may be valid and have half of the policies. So the content must be the same twice."""
        taken = seen = await self._file.content()
        while True:
            await trio.sleep(WATCH_SECS)
            now = await self._file.content()
            if now != seen:
                seen = now
            elif seen != taken:
                taken = seen
                await self.reload(FILE)

    async def look(self) -> None:
        """Follow the store, and tell it what it lacks."""
        async with self._turn:
            if self._unpublished is not None:
                await self._guarded(self._publish_file(self._unpublished), self._unpublished.source)
            else:
                await self._guarded(self._follow(), REDIS)

    async def reload(self, source: str) -> None:
        """Read the settings file, because it has changed (FILE) or because a signal asks for it (SIGNAL)."""
        async with self._turn:
            try:
                loaded = await self._file.load()
            except WrongPolicies as error:
                self._refuse(source, FILE, str(error), "the settings file is not taken up: everything stays as it is")
                return
            self._troubles.pop(FILE, None)
            self._show()
            self._tell_restart(loaded.needs_restart, again=source == SIGNAL)
            if loaded.ruleset.fingerprint == self.file_ruleset.fingerprint:
                self._meter.count(measures.RELOADS, 1, source, UNCHANGED)
                if source == SIGNAL or loaded.ruleset.fingerprint != self.current.fingerprint:
                    log.info("policies of the settings file are unchanged", **self.particulars())
                return
            self.file_ruleset = loaded.ruleset
            self._unpublished = Unpublished(source, self._clock())
            await self._guarded(self._take_up(self._unpublished), source)

    # -- requests

    async def check(self, text: str) -> Ruleset:
        """The ruleset of a text that is not brought into use. Raises WrongPolicies."""
        return await self._make(text)

    async def apply(self, text: str, who: str, revision: int | None = None) -> Change:
        """Bring policies into use on all replicas. Returns the change, which may be an earlier one if nothing differs.

        Raises PoliciesRefused and Away. ``revision``: the revision that the request is for; None: any.
        """
        self._need_shared()
        try:
            ruleset = await self._make(text)
        except WrongPolicies as error:
            self._refuse_request(API, error)
            raise
        async with self._turn:
            return await self._requested(ruleset, API, who, revision)

    async def roll_back(self, to: int | None, who: str, revision: int | None = None) -> Change:
        """Bring the policies of an earlier revision into use again; None: those before the current ones. Else like `apply`."""
        self._need_shared()
        async with self._turn:
            await self._refresh()
            found = self.history.before() if to is None else self.history.find(to)
            if found is None:
                text = "there are no earlier policies" if to is None else f"there is no revision {to} any more"
                raise NoSuchRevision(f"{text}: see the history")
            text = await self.text(found)
            return await self._requested(await self._make(text), ROLLBACK, who, revision)

    async def text(self, change: Change) -> str:
        """The text of a change's policies. Raises NoSuchRevision if it is lost, and Away."""
        for known in (self.current, self.file_ruleset):
            if known.fingerprint == change.fingerprint:
                return known.text
        found = await self._texts.get(change.fingerprint)
        if found is None:
            raise NoSuchRevision(f"the text of revision {change.revision} is not stored any more")
        return found

    def _need_shared(self) -> None:
        if not self.shared:
            raise NotShared

    async def _requested(self, ruleset: Ruleset, source: str, who: str, revision: int | None) -> Change:
        try:
            if self._unpublished is not None:  # the file changed before the request came
                await self._publish_file(self._unpublished)
            change = await self._publish(ruleset, source, who, revision=revision)
        except PoliciesRefused as error:
            self._refuse_request(source, error)
            raise
        except Away:
            self._meter.count(measures.RELOADS, 1, source, UNREACHED)
            raise
        self._troubles.pop(REDIS, None)
        self._last_refusal = ""
        self._show()
        return change

    # -- one change; the caller has the turn

    async def _take_up(self, wanted: Unpublished) -> None:
        """The file's policies, unless the store has newer ones. If the store does not answer, the file's: the other replicas
        have the same file."""
        try:
            await self._publish_file(wanted)
        except Away:
            self._adopt(self.file_ruleset, wanted.source, self._change(self.file_ruleset, wanted.source, self._name))
            raise

    async def _publish_file(self, wanted: Unpublished) -> None:
        await self._refresh()
        await self._publish(self.file_ruleset, wanted.source, self._name, file=wanted)
        self._unpublished = None

    def _is_newer(self, wanted: Unpublished, found: PolicyHistory) -> bool:
        """Whether the file's policies are newer than those of the store. Without Redis the file always counts."""
        if not self.shared:
            return True
        last = found.current
        if (
            wanted.source != START
            and last is not None
            and last.source in (API, ROLLBACK)
            and last.at > wanted.changed_at
        ):
            return False  # the request was made while this replica could not reach the store
        return found.takes(self.file_ruleset.fingerprint, wanted.changed_at)

    async def _follow(self, found: PolicyHistory | None = None) -> None:
        """Bring the store's policies into use, if they are not yet."""
        if found is None:
            found = await self._read()
            if found.revision < self.history.revision:  # the store has lost changes, and this replica knows them
                await self._restore(found)
                return
            self.history = found
            await self._renew()
        change = found.current
        if change is None:
            if found.revision > self._refused:
                self._refused = found.revision
                self._refuse(
                    REDIS,
                    REDIS,
                    f"revision {found.revision} cannot be read: a newer version of tss may have written it",
                )
            return
        if change.fingerprint == self.current.fingerprint:
            self._troubles.pop(REDIS, None)
            self._rulesets.accept(self.current, attrs.evolve(change, source=REDIS))  # its revision may be new
            return
        if change.revision == self._refused:
            return
        try:
            text = await self.text(change)
            ruleset = await self._make(text)
        except PoliciesRefused as error:
            self._refused = change.revision
            self._refuse(REDIS, REDIS, f"revision {change.revision} of {change.who}: {error}")
            return
        self._troubles.pop(REDIS, None)
        self._adopt(ruleset, REDIS, attrs.evolve(change, source=REDIS), change.source)

    async def _publish(
        self, ruleset: Ruleset, source: str, who: str, *, revision: int | None = None, file: Unpublished | None = None
    ) -> Change:
        """Write a change to the store, and bring it into use. ``file``: the policies are the file's, and the store may have
        newer ones, which are followed. Returns the change that counts. Raises StalePolicies, PoliciesRefused and Away."""
        if len(ruleset.text.encode()) > MAX_TEXT_BYTES:
            raise WrongPolicies([f"the policies have more than {MAX_TEXT_BYTES} bytes"])
        await self._texts.put(ruleset.fingerprint, ruleset.text)
        for _ in range(TRIES):
            stored = await self._store.read()
            found = read_history(stored.documents)
            if revision is not None and revision != found.revision:
                raise StalePolicies(revision, found.revision)
            last = found.current
            older = file is not None and not self._is_newer(file, found)
            if last is not None and (older or last.fingerprint == ruleset.fingerprint):
                made, change = found, last
                if file is not None and found.lacks_file(ruleset.fingerprint, known=older):
                    made = found.with_file(ruleset.fingerprint, file.changed_at)
            else:
                change = self._change(ruleset, source, who, found.revision + 1)
                made = found.with_change(change, None if file is None else file.changed_at)
            if made is found or await self._swap(stored, made):
                self.history = made
                if older:
                    await self._follow(made)
                    return change
                if change is not last and last is not None and ruleset.fingerprint == self.current.fingerprint:
                    await self._tell_since(last, ruleset, change)
                self._adopt(ruleset, source, change)
                return change
        raise PoliciesRefused("the policies are being changed by others all the time; try again")

    def _change(self, ruleset: Ruleset, source: str, who: str, revision: int | None = None) -> Change:
        number = self.history.revision if revision is None else revision
        return Change(ruleset.fingerprint, number, round(self._clock(), 3), who, source)

    def _adopt(self, ruleset: Ruleset, source: str, change: Change, origin: str = "") -> None:
        before = self.current
        if ruleset.fingerprint == before.fingerprint:
            self._rulesets.accept(before, change)  # its revision may be new
            if source != START:
                self._meter.count(measures.RELOADS, 1, source, UNCHANGED)
            return
        self._rulesets.accept(ruleset, change)
        self._meter.count(measures.RELOADS, 1, source, ACCEPTED)
        self._tell(ruleset, before.text, change, **({"origin": origin} if origin else {}))
        self._show()

    def _tell(self, ruleset: Ruleset, before: str, change: Change, **more: object) -> None:
        """The line of the audit: who has changed what, and when."""
        log.info(
            "policies changed",
            source=change.source, **more, who=change.who, revision=change.revision, fingerprint=ruleset.fingerprint,
            changes=differences(before, ruleset.text),
        )  # fmt: skip

    async def _tell_since(self, last: Change, ruleset: Ruleset, change: Change) -> None:
        """The file was changed while no replica ran: the policies of the last run were others."""
        before = await self._texts.get(last.fingerprint)
        self._tell(ruleset, before or "{}", change, instead_of=f"revision {last.revision} ({last.source}: {last.who})")

    # -- the store

    async def _read(self) -> PolicyHistory:
        found = read_history((await self._store.read()).documents)
        if self._away:
            log.info("policies are read from Redis again")
        self._away = False
        self._troubles.pop(UNREACHED, None)
        return found

    async def _refresh(self) -> None:
        """Read the history, if the store has a newer one."""
        found = await self._read()
        if found.revision >= self.history.revision:
            self.history = found

    async def _swap(self, stored: Stored, made: PolicyHistory) -> bool:
        return await self._store.swap(stored.version, made.documents, KEEP_SECS)

    async def _restore(self, found: PolicyHistory) -> None:
        """Write what this replica knows to a store that was emptied."""
        current = self.current
        await self._texts.put(current.fingerprint, current.text)
        stored = await self._store.read()
        if read_history(stored.documents).revision == found.revision and await self._swap(stored, self.history):
            log.warning(
                "Redis had lost the policies; this replica has written them again", revision=self.history.revision
            )

    async def _renew(self) -> None:
        """What is in use must not expire."""
        now = self._clock()
        if now < self._renew_at or not self.history.documents:
            return
        self._renew_at = now + RENEW_SECS
        await self._texts.put(self.current.fingerprint, self.current.text)
        stored = await self._store.read()
        await self._store.swap(stored.version, stored.documents, KEEP_SECS)

    # -- telling

    async def _guarded(self, work: Awaitable[None], source: str) -> None:
        """Do it. A store that does not answer, or a refusal, is told and does not end the task."""
        try:
            await work
        except Away as error:
            if not self._away:
                log.warning(
                    "policies cannot be read from or written to the store; the known ones stay", reason=str(error)
                )
            self._away = True
            self._meter.count(measures.RELOADS, 1, source, UNREACHED)
            self._troubles[UNREACHED] = f"{error}: changes of other replicas are not seen until it answers"
        except PoliciesRefused as error:
            self._refuse(source, source, str(error))
        self._show()

    def _refuse(self, source: str, place: str, reason: str, what: str = "changed policies are not taken up") -> None:
        self._meter.count(measures.RELOADS, 1, source, REFUSED)
        self._troubles[place] = reason
        log.error(what, source=source, reason=reason, fingerprint=self.current.fingerprint)
        self._show()

    def _show(self) -> None:
        if self._troubles:
            self._health.degraded(
                COMPONENT, "; ".join(f"{place}: {reason}" for place, reason in self._troubles.items())
            )
        else:
            self._health.up(COMPONENT)

    def _refuse_request(self, source: str, error: PoliciesRefused) -> None:
        self._meter.count(measures.RELOADS, 1, source, REFUSED)
        self._last_refusal = str(error)[:MAX_REFUSAL]

    def _tell_restart(self, keys: Sequence[str], *, again: bool) -> None:
        if keys and (again or keys != self._restart_keys):
            log.warning(f"needs a restart: {', '.join(keys)}", keys=list(keys))
        self._restart_keys = keys
