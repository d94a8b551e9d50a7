"""A difference made small: what can be left out is left out, as long as the answers still differ."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Json = Any
AT_ONCE = 300  # candidates of one round: both programs answer them together


def smallest(thing: Json, differ: Callable[[Sequence[Json]], Sequence[bool]]) -> Json:
    """The JSON value with members of its lists and mappings left out, as long as `differ` says so of it.

    `differ` is given many candidates at once, and answers for each.
    """
    while True:
        candidates = sorted(_less(thing), key=lambda each: len(json.dumps(each)))[:AT_ONCE]
        held = [each for each, still in zip(candidates, differ(candidates), strict=True) if still] if candidates else []
        if not held:
            return thing
        thing = held[0]


def _less(thing: Json) -> Iterator[Json]:
    for path in _paths(thing):
        lesser = copy.deepcopy(thing)
        place = lesser
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        yield lesser


def _paths(thing: Json) -> Iterator[tuple[Any, ...]]:
    members = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, member in members:
        yield (key,)
        for path in _paths(member):
            yield (key, *path)
