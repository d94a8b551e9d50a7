"""A Collector's `tail_sampling` section: its keys, and how they are read.

Source: opentelemetry-collector-contrib v0.161.0, `processor/tailsamplingprocessor/config.go` and `factory.go`. v0.165.1 has the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs

from tss.core.collector.keys import (
    Kind,
    block,
    duration,
    fraction,
    given,
    integer,
    known_keys,
    list_of,
    nearest,
    read_block,
    shown,
    text,
    texts,
    truth,
)
from tss.core.collector.wrong import Findings

_MS = integer("a whole number of milliseconds, such as 5000")
_WHOLE = integer("a whole number")
_COUNT = integer("a whole number", bits=32)
_NOT_NEGATIVE = integer("a whole number, 0 or more", signed=False)
_SHARDS = integer("a whole number from 0 to 256", bits=32, signed=False)


def _error_mode(raw: object, path: str, found: Findings) -> str:
    """`ignore`, `propagate` or `silent`, in any case. Absent is "". null and an empty text are refused."""
    if not isinstance(raw, str | None):
        found.refuse(path, shown(raw), "ignore, propagate or silent")
        return ""
    mode = (raw or "").lower()
    if mode not in {"ignore", "propagate", "silent"}:
        found.refuse(path, shown(raw), "ignore, propagate or silent", nearest(mode, ("ignore", "propagate", "silent")))
    return mode


# ---- the blocks of the policy types


@final
@attrs.frozen
class Latency:
    """`latency`."""

    threshold_ms: int = given(_MS, 0)
    upper_threshold_ms: int = given(_MS, 0)


@final
@attrs.frozen
class NumericAttribute:
    """`numeric_attribute`. A bound of 0 is no bound."""

    key: str = given(text, "")
    min_value: int = given(_WHOLE, 0)
    max_value: int = given(_WHOLE, 0)
    invert_match: bool = given(truth, False)


@final
@attrs.frozen
class StringAttribute:
    """`string_attribute`."""

    key: str = given(text, "")
    values: tuple[str, ...] = given(texts, ())
    enabled_regex_matching: bool = given(truth, False)
    cache_max_size: int = given(_WHOLE, 0)
    invert_match: bool = given(truth, False)


@final
@attrs.frozen
class BooleanAttribute:
    """`boolean_attribute`."""

    key: str = given(text, "")
    value: bool = given(truth, False)
    invert_match: bool = given(truth, False)


@final
@attrs.frozen
class Probabilistic:
    """`probabilistic`."""

    hash_salt: str = given(text, "")
    sampling_percentage: float = given(fraction, 0.0)


@final
@attrs.frozen
class StatusCode:
    """`status_code`."""

    status_codes: tuple[str, ...] = given(texts, ())


@final
@attrs.frozen
class SpanCount:
    """`span_count`. A maximum of 0 is no maximum."""

    min_spans: int = given(_COUNT, 0)
    max_spans: int = given(_COUNT, 0)


@final
@attrs.frozen
class TraceState:
    """`trace_state`."""

    key: str = given(text, "")
    values: tuple[str, ...] = given(texts, ())


@final
@attrs.frozen
class OttlCondition:
    """`ottl_condition`."""

    error_mode: str = given(_error_mode, "")
    span: tuple[str, ...] = given(texts, ())
    spanevent: tuple[str, ...] = given(texts, ())


@final
@attrs.frozen
class RateLimiting:
    """`rate_limiting`."""

    spans_per_second: int = given(_WHOLE, 0)
    burst_capacity: int = given(_WHOLE, 0)


@final
@attrs.frozen
class BytesLimiting:
    """`bytes_limiting`."""

    bytes_per_second: int = given(_WHOLE, 0)
    burst_capacity: int = given(_WHOLE, 0)


# ---- policies within policies


@final
@attrs.frozen
class Policy:
    """An entry of `policies`, or of a policy within a policy. `blocks` has the known blocks that are given, by name.

    `swallowed` are the unknown keys. The Collector takes them as settings of an extension, and so says nothing about a
    block whose name is misspelt.
    """

    path: str
    name: str = ""
    type: str = ""
    blocks: Mapping[str, Any] = attrs.field(factory=dict)
    swallowed: tuple[str, ...] = ()

    @property
    def own(self) -> Any:
        """The block of its type. Its keys have their defaults if it is absent. Its type must be one of BLOCKS or NESTED."""
        given = self.blocks.get(self.type)
        if given is None:
            return BLOCKS[self.type]() if self.type in BLOCKS else NESTED[self.type]()
        return given


def _policy(more: Mapping[str, Kind]) -> Kind:
    """An entry with the blocks that every policy may have, and with these more."""

    def read(raw: object, path: str, found: Findings) -> Policy:
        if raw is None:
            return Policy(path)
        if not isinstance(raw, Mapping):
            found.refuse(path, shown(raw), "a mapping with name, type and the block of the type")
            return Policy(path, path, "always_sample")  # never used: the section is refused
        kinds = {**_SHARED, **more}
        names = {name: text(raw[name], f"{path}.{name}", found) if name in raw else "" for name in ("name", "type")}
        blocks = {name: kind(raw[name], f"{path}.{name}", found) for name, kind in kinds.items() if name in raw}
        others = [name for name in raw if name not in kinds and name not in names]
        swallowed = tuple(map(str, others))
        for name in others:
            if not isinstance(raw[name], Mapping | None):
                hint = nearest(str(name), ["name", "type", *kinds])
                found.refuse(f"{path}.{name}", shown(raw[name]), f"a mapping, or no key {name}", hint)
        return Policy(path, names["name"], names["type"], blocks, swallowed)

    return read


def _nested(raw: object, path: str, found: Findings) -> Policy:
    """The one policy within `not`."""
    return _policy({})(raw, path, found)  # type: ignore[no-any-return]


def _member_of_and(raw: object, path: str, found: Findings) -> Policy:
    return _policy({"not": block(Not)})(raw, path, found)  # type: ignore[no-any-return]


def _member_of_composite(raw: object, path: str, found: Findings) -> Policy:
    return _policy({"and": block(And)})(raw, path, found)  # type: ignore[no-any-return]


@final
@attrs.frozen
class And:
    """`and`."""

    and_sub_policy: tuple[Policy, ...] = given(list_of(_member_of_and), ())


@final
@attrs.frozen
class Not:
    """`not`."""

    not_sub_policy: Policy = given(_nested, Policy(""))


@final
@attrs.frozen
class Drop:
    """`drop`."""

    drop_sub_policy: tuple[Policy, ...] = given(list_of(_member_of_and), ())


@final
@attrs.frozen
class RateAllocation:
    """An entry of `rate_allocation`."""

    policy: str = given(text, "")
    percent: int = given(_WHOLE, 0)


@final
@attrs.frozen
class Composite:
    """`composite`."""

    max_total_spans_per_second: int = given(_WHOLE, 0)
    policy_order: tuple[str, ...] = given(texts, ())
    composite_sub_policy: tuple[Policy, ...] = given(list_of(_member_of_composite), ())
    rate_allocation: tuple[RateAllocation, ...] = given(list_of(block(RateAllocation)), ())


BLOCKS: Mapping[str, type[Any]] = {
    "latency": Latency,
    "numeric_attribute": NumericAttribute,
    "probabilistic": Probabilistic,
    "status_code": StatusCode,
    "string_attribute": StringAttribute,
    "rate_limiting": RateLimiting,
    "bytes_limiting": BytesLimiting,
    "span_count": SpanCount,
    "trace_state": TraceState,
    "boolean_attribute": BooleanAttribute,
    "ottl_condition": OttlCondition,
}
"""The blocks that every policy may have, also within another one."""

NESTED: Mapping[str, type[Any]] = {"and": And, "not": Not, "drop": Drop, "composite": Composite}
"""The blocks that an entry of `policies` may have besides."""

WITHOUT_BLOCK = ("always_sample", "trace_flags")
"""The types that have no block."""

_SHARED: Mapping[str, Kind] = {name: block(cls) for name, cls in BLOCKS.items()}
_TOP = _policy({name: block(cls) for name, cls in NESTED.items()})


# ---- the section


@final
@attrs.frozen
class DecisionCache:
    """`decision_cache`."""

    sampled_cache_size: int = given(_WHOLE, 0)
    non_sampled_cache_size: int = given(_WHOLE, 0)


def _storage(raw: object, path: str, found: Findings) -> None:
    if raw is not None:
        found.refuse(path, shown(raw), "no key tail_storage", "open traces are parked in Redis: see redis.url")


def _strategy(raw: object, path: str, found: Findings) -> str:
    hint = ""
    if raw == "span-ingest":
        hint = "it decides from parts of a trace; a trace is decided as a whole here"
    if raw != "trace-complete":
        found.refuse(path, shown(raw), "trace-complete, or no key sampling_strategy", hint)
    return "trace-complete"


@final
@attrs.frozen
class Section:
    """The body of a `tail_sampling` section. Durations are in nanoseconds."""

    decision_wait: int = given(duration, 30 * 10**9)
    decision_wait_after_root_received: int = given(duration, 0)
    num_traces: int = given(_NOT_NEGATIVE, 50_000)
    block_on_overflow: bool = given(truth, False)
    expected_new_traces_per_sec: int = given(_NOT_NEGATIVE, 0)
    policies: tuple[Policy, ...] = given(list_of(_TOP), ())
    decision_cache: DecisionCache = given(block(DecisionCache), DecisionCache())
    tail_storage: None = given(_storage, None)
    sample_on_first_match: bool = given(truth, False)
    sampling_strategy: str = given(_strategy, "trace-complete")
    drop_pending_traces_on_shutdown: bool = given(truth, False)
    maximum_trace_size_bytes: int = given(_NOT_NEGATIVE, 0)
    num_shards: int = given(_SHARDS, 1)


def read_section(body: object, found: Findings) -> Section:
    """The section. What is wrong, and what is surprising in single values, is added to the findings."""
    section = read_block(Section, body, "", found)
    if section.num_shards > 256:  # the processor's own limit
        found.refuse("num_shards", str(section.num_shards), "a whole number from 0 to 256")
    return section


KEYS = tuple(known_keys(Section))
"""The keys of a section."""
