"""Policies for tests without the settings: a text is JSON such as `{"rate": 0.5}`, and its ruleset decides nothing."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import attrs
import trio

from tss.core.errors import Away
from tss.core.policy_errors import WrongPolicies
from tss.core.ruleset import Change, Ruleset
from tss.tasks.reloading import LoadedFile


def ruleset(**policies: object) -> Ruleset:
    """The ruleset of these policies."""
    text = json.dumps(policies, sort_keys=True)
    return Ruleset(sha256(text.encode()).hexdigest()[:16], text, cast(Any, SimpleNamespace(ruleset="")))


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no number")


async def made(text: str) -> Ruleset:
    """The ruleset of a text; raises WrongPolicies for `{"wrong": ...}`, and for what is no JSON object."""
    await trio.lowlevel.checkpoint()
    try:
        found = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise WrongPolicies([f"sampling: {error}"]) from error
    if not isinstance(found, dict) or "wrong" in found:
        raise WrongPolicies(["sampling.wrong: an unknown key"])
    return ruleset(**found)


@attrs.define
class FakeRulesets:
    """Takes every ruleset at once."""

    current: Ruleset
    changes: list[Change] = attrs.field(factory=list)
    revision: int = 1

    def accept(self, ruleset: Ruleset, change: Change) -> None:
        assert ruleset.fingerprint == change.fingerprint
        self.revision = max(self.revision, change.revision)
        if ruleset.fingerprint != self.current.fingerprint:
            self.current = ruleset
            self.changes.append(change)


@attrs.define
class FakeTexts:
    """The texts of all replicas of a test."""

    texts: dict[str, str] = attrs.field(factory=dict)
    away: bool = False

    async def get(self, fingerprint: str) -> str | None:
        await self._answer()
        return self.texts.get(fingerprint)

    async def put(self, fingerprint: str, text: str) -> None:
        await self._answer()
        self.texts[fingerprint] = text

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Away("Redis connection timeout")


@attrs.define
class FakeFile:
    """A settings file with nothing but policies. ``needs_restart``: other keys that were changed in it."""

    text: str
    needs_restart: list[str] = attrs.field(factory=list)

    async def content(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.text.encode()

    async def load(self) -> LoadedFile:
        return LoadedFile(await made(self.text), list(self.needs_restart))
