"""The settings file while the daemon runs: whether it has changed, and what of it can be taken up without a restart."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from tss.core.errors import Away
from tss.core.health import Health
from tss.core.measures import Meter
from tss.core.policy_errors import WrongPolicies
from tss.core.ruleset import Ruleset
from tss.daemon.fleet import Fleet
from tss.daemon.wiring import ruleset_of
from tss.edges import logs
from tss.edges.files.state_file import LocalState
from tss.settings import Settings, SettingsError, load, sampling_of, text_of
from tss.settings.changes import changed_keys
from tss.settings.checks import conflicts
from tss.state.rulesets import Rulesets
from tss.tasks.reloading import LoadedFile, Reloading, Texts

MAX_FILE_BYTES = 16 * 1024 * 1024  # a ConfigMap has at most 1 MiB
LOOK_SECS = 30.0  # a file on a network drive that hangs must not stop the looks for ever


@attrs.define
class SettingsFile:
    """The file and the environment that the daemon was started with. Reading and checking run on a worker thread."""

    path: str | None  # None: the settings are in the environment alone
    environ: Mapping[str, str] = attrs.field(repr=False)
    started: Settings = attrs.field(repr=False)
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), repr=False)

    async def content(self) -> bytes | None:
        """A digest of the file's content; None if it is no file that can be read again, or cannot be read now."""
        with trio.move_on_after(LOOK_SECS):
            return await trio.to_thread.run_sync(self._digest, abandon_on_cancel=True)
        return None

    def _digest(self) -> bytes | None:
        if self.path is None:
            return None
        try:
            with Path(self.path).open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                return hashlib.sha256(file.read(MAX_FILE_BYTES)).digest()
        except OSError:
            return b""

    @property
    def changed_at(self) -> float:
        """When the file was changed, in seconds since 1970; 0 if that is not known."""
        try:
            return 0.0 if self.path is None else Path(self.path).stat().st_mtime
        except OSError:
            return 0.0

    async def load(self) -> LoadedFile:
        """Read the file, and set the log level. Raises WrongPolicies."""
        if self.path is None or not await trio.to_thread.run_sync(self._is_file):
            raise WrongPolicies(
                [
                    "the settings come from the environment or from stdin, which cannot be read again: use a file and --config"
                ]
            )
        settings, ruleset = await trio.to_thread.run_sync(self._load, limiter=self._limiter)
        logs.set_level(settings.observability.log_level)
        return LoadedFile(ruleset, changed_keys(self.started, settings))

    async def make(self, text: str) -> Ruleset:
        """The ruleset of a text of policies. Raises WrongPolicies."""
        return await trio.to_thread.run_sync(self._made, text, limiter=self._limiter)

    def _is_file(self) -> bool:
        path = Path(self.path or "")
        return path.is_file() or not path.exists()  # a file that is missing has an error of its own

    def _load(self) -> tuple[Settings, Ruleset]:
        try:
            settings = load(self.path, self.environ)
        except SettingsError as error:
            raise WrongPolicies([str(each) for each in error.errors]) from error
        return settings, self._made(text_of(settings.sampling))

    def _made(self, text: str) -> Ruleset:
        """Checked beside the other settings of the running daemon: an exporter may name a policy that would be gone."""
        try:
            sampling = sampling_of(text, self.started.sampling)
        except SettingsError as error:
            raise WrongPolicies([str(each) for each in error.errors]) from error
        running = attrs.evolve(self.started, sampling=sampling)
        errors = [f"{each.keys[0]}: found {each.found}; allowed: {each.allowed}" for each in conflicts(running)]
        if errors:
            raise WrongPolicies([f"{each} (beside the settings that the daemon was started with)" for each in errors])
        return ruleset_of(sampling, self.started.effective_exporters)


@attrs.frozen
class PatientTexts:
    """The texts as rulesets need them: a store that does not answer has no text."""

    texts: Texts

    async def get(self, fingerprint: str) -> str | None:
        """The text; None if it is not known or the store does not answer."""
        try:
            return await self.texts.get(fingerprint)
        except Away:
            return None


def open_reloading(
    settings: Settings, fleet: Fleet, rulesets: Rulesets, file: SettingsFile, meter: Meter, health: Health
) -> Reloading:
    """The task that brings changed policies into use. Raises UnusableFile for `app.stateDir`."""
    store, texts = fleet.policy_history, fleet.policy_texts
    shared = store is not None
    if store is None or texts is None:
        store = texts = LocalState(settings.app.state_dir)
    rulesets.texts = PatientTexts(texts)
    return Reloading(
        rulesets=rulesets,
        store=store,
        texts=texts,
        shared=shared,
        file=file,
        make=file.make,
        name=settings.app.instance_id,
        meter=meter,
        health=health,
    )
