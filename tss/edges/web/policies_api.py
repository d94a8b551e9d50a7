"""The pages under /admin/policies: show the policies in force, change them on all replicas, roll a change back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

from tss.core.differences import differences
from tss.core.errors import Away
from tss.core.force.document import when
from tss.core.policy_errors import NoSuchRevision, NotShared, PoliciesRefused, StalePolicies, WrongPolicies
from tss.core.policy_history import MAX_REVISION, MAX_WHO, PolicyHistory
from tss.core.ruleset import Change, Ruleset
from tss.edges.web.admin import Guard
from tss.edges.web.messages import POLICIES_PATH, AdminRequest, HttpResponse, error_response, json_response

WHAT = "changes of policies"


class Policies(Protocol):
    """The policies of this replica, and of all (`tasks/reloading`)."""

    @property
    def current(self) -> Ruleset:
        """The newest ruleset."""

    @property
    def file_ruleset(self) -> Ruleset:
        """Those of the settings file."""

    @property
    def history(self) -> PolicyHistory:
        """The last changes, as this replica last read them."""

    async def check(self, text: str) -> Ruleset:
        """The ruleset of a text."""

    async def apply(self, text: str, who: str, revision: int | None = None) -> Change:
        """Bring policies into use on all replicas."""

    async def roll_back(self, to: int | None, who: str, revision: int | None = None) -> Change:
        """Bring earlier policies into use again."""

    async def text(self, change: Change) -> str:
        """The text of a change's policies."""


class PoliciesApi:
    """Answers for one replica: it shows the policies of this replica. A change is for all replicas."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.policies: Policies | None = None
        """None while the daemon starts."""

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response to any request."""
        refusal = self._guard.refusal(request, WHAT)
        if refusal is not None:
            return refusal
        if self.policies is None:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon is starting: try again in some seconds")
        try:
            return await self._routed(self.policies, request)
        except WrongPolicies as error:
            return json_response(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                {"error": "the policies are not valid: see errors", "errors": error.errors},
            )
        except StalePolicies as error:
            return error_response(HTTPStatus.PRECONDITION_FAILED, str(error))
        except NoSuchRevision as error:
            return error_response(HTTPStatus.NOT_FOUND, str(error))
        except (NotShared, PoliciesRefused) as error:
            return error_response(HTTPStatus.CONFLICT, str(error))
        except Away as error:
            text = f"{error}: the change was probably not made; look at the history, and try again"
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, text)

    async def _routed(self, policies: Policies, request: AdminRequest) -> HttpResponse:
        match request.method, [part for part in request.path.removeprefix(POLICIES_PATH).split("/") if part]:
            case "GET" | "HEAD", []:
                return _diff_of_file(policies) if request.query.partition("=")[0] == "diff" else _shown(policies)
            case "PUT", []:
                change = await policies.apply(_text(request.body), _who(request), _revision(request))
                return _changed(policies, change)
            case "POST", ["diff"]:
                return _diff(policies, await policies.check(_text(request.body)))
            case "GET" | "HEAD", ["history"]:
                newest_first = [_entry(change) for change in reversed(policies.history.changes)]
                return json_response(HTTPStatus.OK, {"revision": policies.history.revision, "changes": newest_first})
            case "GET" | "HEAD", ["history", number]:
                return await _one(policies, number)
            case "POST", ["rollback"]:
                to = _wanted(request.body)
                return _changed(policies, await policies.roll_back(to, _who(request), _revision(request)))
        return _nothing_there(request)


def _shown(policies: Policies) -> HttpResponse:
    current, history = policies.current, policies.history
    last = history.current
    known = {} if last is None or last.fingerprint != current.fingerprint else _entry(last)
    content = {
        "revision": history.revision,
        "fingerprint": current.fingerprint,
        **known,
        "file": {"fingerprint": policies.file_ruleset.fingerprint, "inForce": _is_file(policies)},
        "policies": json.loads(current.text),
    }
    return json_response(HTTPStatus.OK, content, {"ETag": f'"{history.revision}"'})


def _is_file(policies: Policies) -> bool:
    return policies.file_ruleset.fingerprint == policies.current.fingerprint


def _diff_of_file(policies: Policies) -> HttpResponse:
    changes = differences(policies.file_ruleset.text, policies.current.text)
    return json_response(
        HTTPStatus.OK, {"from": "the settings file", "to": "the policies in force", "changes": changes}
    )


def _diff(policies: Policies, draft: Ruleset) -> HttpResponse:
    current = policies.current
    same = draft.fingerprint == current.fingerprint
    content = {
        "revision": policies.history.revision,
        "fingerprint": draft.fingerprint,
        "same": same,
        "changes": [] if same else differences(current.text, draft.text),
    }
    return json_response(HTTPStatus.OK, content, {"ETag": f'"{policies.history.revision}"'})


def _changed(policies: Policies, change: Change) -> HttpResponse:
    shown = _entry(change) | {"policies": json.loads(policies.current.text)}
    return json_response(HTTPStatus.OK, shown, {"ETag": f'"{change.revision}"'})


async def _one(policies: Policies, number: str) -> HttpResponse:
    digits = number.isascii() and number.isdigit() and len(number) < len(str(MAX_REVISION))
    change = policies.history.find(int(number)) if digits else None
    if change is None:
        raise NoSuchRevision(f"there is no revision {number[:20]!r} any more: see GET {POLICIES_PATH}/history")
    text = await policies.text(change)
    return json_response(HTTPStatus.OK, _entry(change) | {"policies": json.loads(text)})


def _entry(change: Change) -> dict[str, object]:
    return {
        "revision": change.revision,
        "fingerprint": change.fingerprint,
        "at": when(change.at),
        "source": change.source,
        "who": change.who,
    }


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise WrongPolicies(["the body is not UTF-8 text"]) from error


def _who(request: AdminRequest) -> str:
    """Who asks: what the client says of itself, which nobody has checked, and its address."""
    said = "".join(each for each in request.sender if each.isprintable()).strip()[: MAX_WHO - 60]
    return f"{said} ({request.remote})" if said else request.remote


def _revision(request: AdminRequest) -> int | None:
    """The revision that the change is for, from If-Match; None: any."""
    given = request.if_match.strip()
    if given in ("", "*"):
        return None
    number = given.removeprefix("W/").strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > len(str(MAX_REVISION)):
        raise WrongPolicies(
            ['If-Match: it is not the ETag of the policies, such as "3": send that of an earlier response']
        )
    return int(number)


def _wanted(body: bytes) -> int | None:
    """The revision to go back to; None: the one before."""
    if not body.strip():
        return None
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongPolicies(['the body must be JSON, such as {"revision": 3}']) from error
    if not isinstance(found, Mapping) or set(found) - {"revision"}:
        raise WrongPolicies(['the body must be an object with nothing but a revision, such as {"revision": 3}'])
    number = found.get("revision")
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MAX_REVISION:
        raise WrongPolicies(["revision: must be a whole number above 0"])
    return number


def _nothing_there(request: AdminRequest) -> HttpResponse:
    paths = [f"GET, PUT {POLICIES_PATH}", f"GET {POLICIES_PATH}?diff", f"POST {POLICIES_PATH}/diff"]
    paths += [f"GET {POLICIES_PATH}/history", f"GET {POLICIES_PATH}/history/REVISION", f"POST {POLICIES_PATH}/rollback"]
    return error_response(
        HTTPStatus.NOT_FOUND, f"there is no {request.method} {request.path}; there are {'; '.join(paths)}"
    )
