"""The pages under /admin/force-rules: list, add, change and remove force rules."""

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
from tss.core.force.errors import ChangeRefused, NoSuchRule, RuleConflict, Stale, WrongRule
from tss.edges.web.admin import Guard
from tss.edges.web.messages import ADMIN_PATH, AdminRequest, HttpResponse, error_response, json_response
from tss.settings import ForceSampling

log = structlog.get_logger()

STALE_LOOKS, STALE_SECS = 3, 10.0
_VERBS = {"extend": "extended", "enable": "enabled", "disable": "disabled"}  # each with its word in the log


class ForceApi:
    """Answers for one replica: it lists the rules that this replica knows. A change goes to Redis, for all replicas."""

    def __init__(
        self, settings: ForceSampling, book: Rulebook, *, has_redis: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self.guard = Guard(settings, clock)
        self._bounds = Bounds(settings.default_duration_secs, settings.max_duration_secs, settings.max_rules)
        # Several looks in a row have failed, each after all the time that a call to Redis may take.
        self._stale_secs = STALE_LOOKS * settings.poll_secs + STALE_SECS
        self._book = book
        self._has_redis = has_redis
        self._clock = clock
        self.change: Callable[[Change], Awaitable[None]] | None = None
        """Makes a change in Redis. None until the link to Redis is there."""

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response to any request."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await self._routed(request)
        except WrongRule as error:
            return error_response(
                HTTPStatus.UNPROCESSABLE_ENTITY, "the rule is not valid: see fields", fields=error.fields
            )
        except RuleConflict as error:
            return error_response(HTTPStatus.CONFLICT, str(error), fields={error.field: str(error)})
        except NoSuchRule as error:
            return error_response(HTTPStatus.NOT_FOUND, str(error))
        except Stale as error:
            return error_response(HTTPStatus.PRECONDITION_FAILED, str(error))
        except ChangeRefused as error:
            return error_response(HTTPStatus.CONFLICT, str(error))
        except Away as error:
            text = f"{error}: the change was probably not made; existing rules work on until they expire; try again"
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, text)

    def _refusal(self, request: AdminRequest) -> HttpResponse | None:
        """The response if no rule can be read or changed; else None."""
        refusal = self.guard.refusal(request, "force rules")
        if refusal is not None:
            return refusal
        if not self._has_redis:
            text = (
                "force rules need Redis, through which all replicas get them: set redis.url (TSS_REDIS_URL) and restart"
            )
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if self.change is None or self._book.as_of is None:
            text = "the rules have not been read from Redis yet: look at redis in /health, and try again"
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    async def _routed(self, request: AdminRequest) -> HttpResponse:
        match request.method, [part for part in request.path.removeprefix(ADMIN_PATH).split("/") if part]:
            case "GET" | "HEAD", []:
                return self._list()
            case "POST", []:
                return await self._add(request)
            case "GET" | "HEAD", [rule_id]:
                return _one(HTTPStatus.OK, self._rule(rule_id))
            case "PUT", [rule_id]:
                wanted = draft(_document(request.body))
                change = changes.replace(wanted, rule_id, self._bounds, self._clock(), _revision(request))
                return await self._changed(request, "changed", rule_id, change)
            case "DELETE", [rule_id]:
                return await self._remove(request, rule_id)
            case "POST", [rule_id, verb] if verb in _VERBS:
                return await self._changed(request, _VERBS[verb], rule_id, self._verb(request, rule_id, verb))
        return self._nothing_there(request)

    def _list(self) -> HttpResponse:
        now = self._clock()
        rules = [shown(rule) for rule in self._book.rules(now)]
        as_of = self._book.as_of or now
        found: dict[str, object] = {"asOf": when(as_of), "rules": rules}
        if now - as_of > self._stale_secs:
            found["stale"] = "Redis has not answered since then, so there may be other rules by now: see /health"
        return json_response(HTTPStatus.OK, found)

    def _rule(self, rule_id: str) -> Rule:
        for rule in self._book.rules(self._clock()):
            if rule.id == rule_id:
                return rule
        raise NoSuchRule(rule_id)

    async def _add(self, request: AdminRequest) -> HttpResponse:
        rule_id = secrets.token_hex(4)
        change = changes.add(draft(_document(request.body)), rule_id, self._bounds, self._clock())
        await self._make(change)
        rule = self._rule(rule_id)
        _tell("added", request, rule)
        return _one(HTTPStatus.CREATED, rule, {"Location": f"{ADMIN_PATH}/{rule_id}"})

    async def _changed(self, request: AdminRequest, what: str, rule_id: str, change: Change) -> HttpResponse:
        await self._make(change)
        rule = self._rule(rule_id)
        _tell(what, request, rule)
        return _one(HTTPStatus.OK, rule)

    async def _remove(self, request: AdminRequest, rule_id: str) -> HttpResponse:
        await self._make(changes.remove(rule_id, _revision(request)))
        log.info("force rule removed", id=rule_id, remote=request.remote)
        return HttpResponse(HTTPStatus.NO_CONTENT, b"")

    def _verb(self, request: AdminRequest, rule_id: str, verb: str) -> Change:
        revision = _revision(request)
        if verb == "extend":
            secs = duration(_document(request.body) if request.body.strip() else {})
            return changes.extend(rule_id, secs, self._bounds, self._clock(), revision)
        return changes.switch(rule_id, verb == "enable", revision)

    async def _make(self, change: Change) -> None:
        assert self.change is not None, "`_refusal` has checked it"  # noqa: S101
        await self.change(change)

    def _nothing_there(self, request: AdminRequest) -> HttpResponse:
        paths = [f"GET, POST {ADMIN_PATH}", f"GET, PUT, DELETE {ADMIN_PATH}/ID"]
        paths += [f"POST {ADMIN_PATH}/ID/{verb}" for verb in _VERBS]
        return error_response(
            HTTPStatus.NOT_FOUND, f"there is no {request.method} {request.path}; there are {'; '.join(paths)}"
        )


def _tell(what: str, request: AdminRequest, rule: Rule) -> None:
    log.info(f"force rule {what}", id=rule.id, remote=request.remote, rule=json.dumps(shown(rule)))


def _document(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongRule({"body": f"must be JSON: {error}"}) from error


def _revision(request: AdminRequest) -> int | None:
    """The revision that the change is for, from If-Match; None: any."""
    given = request.if_match.strip()
    if given in ("", "*"):
        return None
    number = given.removeprefix("W/").strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise WrongRule({"If-Match": 'it is not the ETag of a rule, such as "3": send the ETag of an earlier response'})
    return int(number)


def _one(status: int, rule: Rule, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return json_response(status, shown(rule), {"ETag": f'"{rule.revision}"', **(headers or {})})
