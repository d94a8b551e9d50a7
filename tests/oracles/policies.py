"""Random bodies of a Collector's `tail_sampling`: right ones, and wrong ones of the kinds that people write."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.oracles.chance import Chance
from tests.oracles.conditions import Conditions
from tests.oracles.words import (
    BAD_PATTERNS,
    BOOLEAN_KEYS,
    KEYS,
    NUMBER_KEYS,
    PATTERNS,
    STATES,
    STRING_KEYS,
    STRINGS,
    Hints,
)

Json = Any
Policy = dict[str, Json]
MAKERS: dict[str, Callable[[Chance, Hints], Policy]] = {}
WHOLE = 1 << 56  # randomness is below it

# How often each type is chosen at the top. Inside `and`, `drop` and `not` only those of SHARED are allowed.
WEIGHTS = (
    (2, "always_sample"), (8, "latency"), (8, "numeric_attribute"), (10, "string_attribute"), (6, "boolean_attribute"),
    (6, "status_code"), (6, "span_count"), (5, "trace_state"), (5, "trace_flags"), (12, "ottl_condition"), (8, "probabilistic"),
    (9, "and"), (6, "not"), (5, "drop"),
)  # fmt: skip
SHARED = WEIGHTS[:-3]
TYPES = tuple(name for _, name in WEIGHTS)


def _maker(make: Callable[[Chance, Hints], Policy]) -> Callable[[Chance, Hints], Policy]:
    MAKERS[make.__name__.removeprefix("_")] = make
    return make


def policy(kind: str, chance: Chance, hints: Hints) -> Policy:
    """A policy of the type, without a name."""
    return {"type": kind, **MAKERS[kind](chance, hints)}


@_maker
def _always_sample(_chance: Chance, _hints: Hints) -> Policy:
    return {}


@_maker
def _latency(chance: Chance, hints: Hints) -> Policy:
    block: Policy = {}
    limits = (0, 1, 5, 100, 1000, 5000)
    if not chance.maybe(0.1):
        block["threshold_ms"] = chance.one([*limits, *limits, -2000])
    if chance.maybe(0.4):
        block["upper_threshold_ms"] = chance.one([*limits, 10_000, 10_000, 20_000])
    if chance.maybe(0.05):
        block["threshold_ms"] = chance.one([99.9, -0.5, 1 << 40, 1 << 62, -(1 << 63), 1e17])
    for limit in map(int, block.values()):
        hints.durations_ns += [limit * 1_000_000 + off for off in (-1_000_000, -1, 0, 1, 999_999, 1_000_000)]
    return {"latency": block}


@_maker
def _numeric_attribute(chance: Chance, hints: Hints) -> Policy:
    key = chance.one(NUMBER_KEYS)
    least = chance.one([0, 1, 5, 100, 200, 400, -3, -1])
    most = least + chance.one([0, 1, 5, 100, 199])
    block: Policy = {"key": key}
    if not chance.maybe(0.25):
        block["min_value"] = least if chance.maybe(0.95) else chance.one([least + 0.7, (1 << 53) + 1, -(1 << 63)])
    if not chance.maybe(0.25) or not block.get("min_value"):
        block["max_value"] = most if chance.maybe(0.9) else least - 1
    if not block.get("min_value") and not block.get("max_value") and chance.maybe(0.9):
        block["max_value"] = 5  # without any bound the Collector ends at its first decision
    near = [value + off for value in (least, most) for off in (-1, 0, 1)]
    hints.attributes += [(key, value) for value in [*near, float(least), str(least), True, [least]]]
    if chance.maybe(0.25):
        block["invert_match"] = chance.maybe(0.9)
    return {"numeric_attribute": block}


@_maker
def _string_attribute(chance: Chance, hints: Hints) -> Policy:
    key = chance.one(STRING_KEYS)
    block: Policy = {"key": key}
    texts: list[str] = []
    if chance.maybe(0.5):
        chosen = chance.some(PATTERNS, 0 if chance.maybe(0.1) else 1, 3)
        block["values"] = [pattern for pattern, _ in chosen]
        block["enabled_regex_matching"] = True
        texts = [text for _, examples in chosen for text in examples]
        if chance.maybe(0.3):
            block["cache_max_size"] = chance.one([0, 1, 10, -1])
    else:
        block["values"] = chance.some(STRINGS, 0 if chance.maybe(0.1) else 1, 3)
        texts = [change(text) for text in block["values"] for change in (str, str.upper, lambda text: text + "x")]
        if chance.maybe(0.2):
            block["enabled_regex_matching"] = False
    hints.attributes += [(key, text) for text in texts] + [(key, 5)]
    if chance.maybe(0.25):
        block["invert_match"] = chance.maybe(0.9)
    return {"string_attribute": block}


@_maker
def _boolean_attribute(chance: Chance, hints: Hints) -> Policy:
    key = chance.one(BOOLEAN_KEYS)
    block: Policy = {"key": key}
    if not chance.maybe(0.1):
        block["value"] = chance.maybe(0.6)
    hints.attributes += [(key, True), (key, False), (key, True), (key, False), (key, "true"), (key, 1)]
    if chance.maybe(0.25):
        block["invert_match"] = chance.maybe(0.9)
    return {"boolean_attribute": block}


@_maker
def _status_code(chance: Chance, _hints: Hints) -> Policy:
    return {"status_code": {"status_codes": chance.some(["OK", "ERROR", "ERROR", "UNSET"], 1, 2)}}


@_maker
def _span_count(chance: Chance, hints: Hints) -> Policy:
    block: Policy = {}
    if not chance.maybe(0.15):
        block["min_spans"] = chance.between(0, 5)
    if chance.maybe(0.4):
        block["max_spans"] = chance.between(0, 7)
    hints.counts += [count + off for count in block.values() for off in (-1, 0, 1)]
    if chance.maybe(0.05):
        block["min_spans"] = chance.one([1.9, -1, 1 << 40, (1 << 32) + 2, -0.5])
    return {"span_count": block}


@_maker
def _trace_state(chance: Chance, hints: Hints) -> Policy:
    hints.states += STATES
    values = [
        chance.weighted([(8, "1"), (5, "2"), (4, chance.one(["", "1;b", " 1", "1=2", "y" * 256]))])
        for _ in range(chance.weighted([(1, 0), (12, 2)]))
    ]
    return {
        "trace_state": {
            "key": chance.weighted([(8, "a"), (1, "b"), (1, chance.one(["rojo@x", "A", ""]))]),
            "values": values,
        }
    }


@_maker
def _trace_flags(_chance: Chance, hints: Hints) -> Policy:
    hints.flags = True
    return {}


@_maker
def _ottl_condition(chance: Chance, hints: Hints) -> Policy:
    block: Policy = {}
    if chance.maybe(0.7):
        block["error_mode"] = chance.one(["propagate", "ignore", "silent", "propagate"])
    conditions = Conditions(chance, hints)
    events = chance.maybe(0.25)
    if not events or chance.maybe(0.3):
        block["span"] = [conditions.condition() for _ in range(chance.between(1, 3))]
    if events:
        block["spanevent"] = [conditions.condition(event=True) for _ in range(chance.between(1, 2))]
    return {"ottl_condition": block}


@_maker
def _probabilistic(chance: Chance, hints: Hints) -> Policy:
    percent = chance.weighted(
        [(8, chance.one([50, 50, 25, 12.5, 75, 33.3, 1, 99.9])), (1, chance.one([0, 100, -5, 150, 1e-9]))]
    )
    block: Policy = {"sampling_percentage": percent}
    if chance.maybe(0.3):
        block["hash_salt"] = chance.one(["salt", "", "été"])
    edge = WHOLE - round(WHOLE * min(max(percent, 0), 100) / 100)
    hints.randomness += [min(max(edge + off, 0), WHOLE - 1) for off in (-1, 0, 1, -(1 << 36), 1 << 36)]
    return {"probabilistic": block}


@_maker
def _not(chance: Chance, hints: Hints) -> Policy:
    return {"not": {"not_sub_policy": _named(policy(chance.weighted(SHARED), chance, hints), chance, "m")}}


def _members(chance: Chance, hints: Hints) -> list[Policy]:
    kinds = [chance.weighted([*SHARED, (8, "not")]) for _ in range(chance.weighted([(1, 0), (8, 1), (20, 2), (6, 3)]))]
    return [_named(policy(kind, chance, hints), chance, f"m{at}") for at, kind in enumerate(kinds)]


@_maker
def _and(chance: Chance, hints: Hints) -> Policy:
    return {"and": {"and_sub_policy": _members(chance, hints)}}


@_maker
def _drop(chance: Chance, hints: Hints) -> Policy:
    return {"drop": {"drop_sub_policy": _members(chance, hints)}}


def _named(made: Policy, chance: Chance, name: str) -> Policy:
    """The Collector asks members for no name."""
    return made if chance.maybe(0.1) else {"name": name, **made}


def section(chance: Chance, hints: Hints) -> Policy:
    """A body of `tail_sampling`. Two in five have one policy, whose vote is then the verdict."""
    count = chance.weighted([(40, 1), (20, 2), (15, 3), (10, 4), (5, 6), (1, 12), (1, 0)])
    policies = [{"name": f"p{at}", **policy(chance.weighted(WEIGHTS), chance, hints)} for at in range(count)]
    body: Policy = {"policies": policies}
    if chance.maybe(0.3):
        body["decision_wait"] = chance.one(["10s", "1s", "500ms", "2500ms", "1m30s", "0s"])
    if chance.maybe(0.1):
        body["num_traces"] = chance.one([100, 50_000])
    if chance.maybe(0.2):
        body["sample_on_first_match"] = chance.maybe(0.9)
    if chance.maybe(0.1):
        body["expected_new_traces_per_sec"] = 10
    if chance.maybe(0.1):
        body["decision_cache"] = {"sampled_cache_size": 100, "non_sampled_cache_size": chance.one([0, 100])}
    if chance.maybe(0.05):
        body["decision_wait_after_root_received"] = chance.one(["1s", "0s", "100ms"])
    if chance.maybe(0.03):
        body["maximum_trace_size_bytes"] = chance.one([1, 1 << 40, 0])
    if chance.maybe(0.05):
        body["sampling_strategy"] = "trace-complete"
    if chance.maybe(0.05):
        body["drop_pending_traces_on_shutdown"] = chance.maybe(0.5)
    return body


# Wrong ones ----------------------------------------------------------------------------------------------------------

WRONG_VALUES: tuple[Json, ...] = (
    None,
    True,
    "x",
    "5",
    "",
    0,
    5,
    -1,
    2.7,
    [],
    ["x"],
    [5],
    [None],
    {},
    {"x": 1},
    [[]],
    1e30,
    "5s",
    "1h",
    "OK",
    "gold,prod",
    "1, 2",
    1 << 40,
    -0.5,
)


def wrong(body: Policy, chance: Chance) -> None:
    """Changes a body in place, in one way that people get wrong. The Collector refuses most; some it takes, silently."""
    change = chance.weighted(
        [
            (4, _another_value),
            (3, _misspelt),
            (3, _additional),
            (2, _without),
            (2, _another_type),
            (2, _other_case),
            (1, _twice),
            (2, _odd),
        ]
    )
    change(body, chance)


def _places(value: Json) -> list[tuple[Json, Json]]:
    """All (container, key or index) below a value."""
    found: list[tuple[Json, Json]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in pairs:
        found += [(value, key), *_places(member)]
    return found


def _keys(body: Policy) -> list[tuple[Json, str]]:
    return [(container, key) for container, key in _places(body) if isinstance(container, dict)]


def _another_value(body: Policy, chance: Chance) -> None:
    container, key = chance.one(_places(body))
    container[key] = deepcopy(chance.one(WRONG_VALUES))


def _misspelt(body: Policy, chance: Chance) -> None:
    container, key = chance.one(_keys(body))
    container[key[:-1] + "z"] = container.pop(key)


def _other_case(body: Policy, chance: Chance) -> None:
    container, key = chance.one(_keys(body))
    if chance.maybe(0.5) or not isinstance(container[key], str):
        container[chance.one([key.upper(), key.title(), key.replace("_", "")])] = container.pop(key)
    else:
        container[key] = chance.one([container[key].upper(), container[key].title(), f" {container[key]}"])


def _additional(body: Policy, chance: Chance) -> None:
    containers = [body, *(container[key] for container, key in _places(body) if isinstance(container[key], dict))]
    chance.one(containers)[
        chance.one(["enabled", "name", "type", "key", "policies", "invert_match", "latency", "x"])
    ] = deepcopy(chance.one(WRONG_VALUES))


def _without(body: Policy, chance: Chance) -> None:
    container, key = chance.one(_keys(body))
    del container[key]


def _another_type(body: Policy, chance: Chance) -> None:
    typed = [container for container, key in _keys(body) if key == "type"]
    if typed:
        chance.one(typed)["type"] = chance.one(
            [*TYPES, "no_such", "", "Latency", "composite", "rate_limiting", "string"]
        )


def _twice(body: Policy, chance: Chance) -> None:
    if isinstance(body.get("policies"), list) and body["policies"]:
        body["policies"].append(deepcopy(chance.one(body["policies"])))


def _odd(body: Policy, chance: Chance) -> None:
    """What is written as the settings allow it and is refused, or crashes, or does something else than it says."""
    hints = Hints()
    made: list[Policy] = [
        {"type": "string_attribute", "string_attribute": {"key": chance.one(KEYS), "values": [chance.one(BAD_PATTERNS)], "enabled_regex_matching": True}},
        {"type": "string_attribute", "string_attribute": {"key": "x", "values": [chance.one(BAD_PATTERNS)]}},
        {"type": "numeric_attribute", "numeric_attribute": {"key": "bytes"}},
        {"type": "numeric_attribute", "numeric_attribute": {"key": "bytes", "min_value": 0, "max_value": 0}},
        {"type": "status_code", "status_code": {"status_codes": chance.one([[], ["Error"], ["ERROR", "error"], "ERROR"])}},
        {"type": "ottl_condition", "ottl_condition": chance.one([{}, {"error_mode": chance.one(["explode", ""]), "span": ["true"]}, {"span": []}, {"span": [""]}])},
        {"type": "ottl_condition", "ottl_condition": {"span": [f'IsMatch(name, "{chance.one(BAD_PATTERNS)}")']}},
        {"type": "and", "and": {"and_sub_policy": [{"name": "m", **policy(chance.one(["and", "drop"]), chance, hints)}]}},
        {"type": "not", "not": chance.one([{}, {"not_sub_policy": {"type": "not", "not": {"not_sub_policy": {"type": "always_sample"}}}}])},
        {"type": "drop", "drop": {"drop_sub_policy": [{"name": "m", **policy(chance.one(["and", "drop"]), chance, hints)}]}},
        {"type": "latency", "latancy": {"threshold_ms": 5000}},
        {"type": "boolean_attribute", "string_attribute": {"key": "probe", "values": ["true"]}},
        {"type": "string_attribute"},
        {"type": "and"},
        {"type": "drop"},
        {"type": "probabilistic"},
    ]  # fmt: skip
    body.setdefault("policies", [])
    if isinstance(body["policies"], list):
        body["policies"].append({"name": "odd", **chance.one(made)})
