"""The pages under /admin/force-rules: what each request asks for, and what it is answered. How they are served: `web`."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import structlog

from tss.core.errors import Away
from tss.core.force import Rule, Rulebook, changes
from tss.core.force.changes import Bounds, Change
from tss.core.force.document import draft, duration, shown, when
from tss.core.force.errors import ChangeRefused, Conflict, NoSuchRule, Stale, WrongRule
from tss.edges.web.admin import Guard, document, fault
from tss.edges.web.app import ADMIN_PATH, Answer, Asked
from tss.settings import ForceSampling

log = structlog.get_logger()

_VERBS = {"extend": "extended", "enable": "enabled", "disable": "disabled"}  # and as the log has them


class ForceApi:
    """Answers for one replica. Reading is from what this replica knows; a change is one for all."""

    def __init__(
        self, settings: ForceSampling, book: Rulebook, *, has_redis: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self.guard = Guard(settings, clock)
        self._bounds = Bounds(settings.default_duration_secs, settings.max_duration_secs, settings.max_rules)
        self._book = book
        self._has_redis = has_redis
        self._clock = clock
        self.change: Callable[[Change], Awaitable[None]] | None = None
        """How a change is made; None until there is a way to Redis."""

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request, whatever it is."""
        refusal = self._refusal(asked)
        if refusal is not None:
            return refusal
        try:
            return await self._routed(asked)
        except WrongRule as error:
            return fault(HTTPStatus.UNPROCESSABLE_ENTITY, "this is no rule", fields=error.fields)
        except Conflict as error:
            return fault(HTTPStatus.CONFLICT, str(error), fields={error.field: str(error)})
        except NoSuchRule as error:
            return fault(HTTPStatus.NOT_FOUND, str(error))
        except Stale as error:
            return fault(HTTPStatus.PRECONDITION_FAILED, str(error))
        except ChangeRefused as error:
            return fault(HTTPStatus.CONFLICT, str(error))
        except Away as error:
            text = f"{error}: nothing was changed, as far as is known; rules go on until they expire; try again"
            return fault(HTTPStatus.SERVICE_UNAVAILABLE, text)

    def _refusal(self, asked: Asked) -> Answer | None:
        """Why whoever asks gets no answer, if so."""
        refusal = self.guard.refusal(asked, "force rules")
        if refusal is not None:
            return refusal
        if not self._has_redis:
            text = "force rules need Redis, where all replicas find them: set redis.url (TSS_REDIS_URL)"
            return fault(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if self.change is None or self._book.as_of is None:
            text = "the rules have not been read from Redis yet: see /health, and try again"
            return fault(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    async def _routed(self, asked: Asked) -> Answer:
        match asked.method, [part for part in asked.path.removeprefix(ADMIN_PATH).split("/") if part]:
            case "GET" | "HEAD", []:
                return self._list()
            case "POST", []:
                return await self._add(asked)
            case "GET" | "HEAD", [rule_id]:
                return _one(HTTPStatus.OK, self._rule(rule_id))
            case "PUT", [rule_id]:
                wanted = draft(_document(asked.body))
                change = changes.replace(wanted, rule_id, self._bounds, self._clock(), _revision(asked))
                return await self._changed(asked, "changed", rule_id, change)
            case "DELETE", [rule_id]:
                return await self._remove(asked, rule_id)
            case "POST", [rule_id, verb] if verb in _VERBS:
                return await self._changed(asked, _VERBS[verb], rule_id, self._verb(asked, rule_id, verb))
        return self._nothing_there(asked)

    def _list(self) -> Answer:
        now = self._clock()
        rules = [shown(rule) for rule in self._book.rules(now)]
        return document(HTTPStatus.OK, {"asOf": when(self._book.as_of or now), "rules": rules})

    def _rule(self, rule_id: str) -> Rule:
        for rule in self._book.rules(self._clock()):
            if rule.id == rule_id:
                return rule
        raise NoSuchRule(rule_id)

    async def _add(self, asked: Asked) -> Answer:
        rule_id = secrets.token_hex(4)
        change = changes.add(draft(_document(asked.body)), rule_id, self._bounds, self._clock())
        await self._make(change)
        rule = self._rule(rule_id)
        _tell("added", asked, rule)
        return _one(HTTPStatus.CREATED, rule, {"Location": f"{ADMIN_PATH}/{rule_id}"})

    async def _changed(self, asked: Asked, what: str, rule_id: str, change: Change) -> Answer:
        await self._make(change)
        rule = self._rule(rule_id)
        _tell(what, asked, rule)
        return _one(HTTPStatus.OK, rule)

    async def _remove(self, asked: Asked, rule_id: str) -> Answer:
        await self._make(changes.remove(rule_id, _revision(asked)))
        log.info("force rule removed", id=rule_id, remote=asked.remote)
        return Answer(HTTPStatus.NO_CONTENT, b"")

    def _verb(self, asked: Asked, rule_id: str, verb: str) -> Change:
        revision = _revision(asked)
        if verb == "extend":
            secs = duration(_document(asked.body) if asked.body.strip() else {})
            return changes.extend(rule_id, secs, self._bounds, self._clock(), revision)
        return changes.switch(rule_id, verb == "enable", revision)

    async def _make(self, change: Change) -> None:
        assert self.change is not None, "refused before"  # noqa: S101
        await self.change(change)

    def _nothing_there(self, asked: Asked) -> Answer:
        paths = [f"GET, POST {ADMIN_PATH}", f"GET, PUT, DELETE {ADMIN_PATH}/ID"]
        paths += [f"POST {ADMIN_PATH}/ID/{verb}" for verb in _VERBS]
        return fault(HTTPStatus.NOT_FOUND, f"there is no {asked.method} {asked.path}; there are {'; '.join(paths)}")


def _tell(what: str, asked: Asked, rule: Rule) -> None:
    log.info(f"force rule {what}", id=rule.id, remote=asked.remote, rule=json.dumps(shown(rule)))


def _document(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongRule({"body": f"JSON is expected: {error}"}) from error


def _revision(asked: Asked) -> int | None:
    """The revision that the change is meant for, by If-Match; None is any."""
    given = asked.if_match.strip()
    if given in ("", "*"):
        return None
    number = given.removeprefix("W/").strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise WrongRule({"If-Match": 'an ETag as it was given, such as "3", is expected'})
    return int(number)


def _one(status: int, rule: Rule, headers: Mapping[str, str] | None = None) -> Answer:
    return document(status, shown(rule), {"ETag": f'"{rule.revision}"', **(headers or {})})
