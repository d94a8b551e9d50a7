"""The keys and values that random policies and random traces have in common, so that they meet often."""

from __future__ import annotations

from typing import Any

import attrs

Json = Any

# What the Collector's policies read in one type and OTLP may bring in any.
STRING_KEYS = ("http.route", "url.path", "service.name", "user.tier", "deployment.environment")
NUMBER_KEYS = ("http.status_code", "bytes", "shard")
BOOLEAN_KEYS = ("probe", "canary")
KEYS = (*STRING_KEYS, *NUMBER_KEYS, *BOOLEAN_KEYS, "x", "")

STRINGS = (
    "", "/pay", "/health", "/healthz", "/users/7", "/users/77/orders", "checkout", "Checkout", "gold", "prod", "5", "500", "true",
    "a\nb", "a.b", "été", "été".upper(), "日本語", "x" * 40, " pay ", "ﬀ", "I", "\u0131", "\U0001f600",
)  # fmt: skip

# An expression, and texts that are worth trying on it: what it finds, and what it narrowly does not.
PATTERNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("heal", ("/health", "heel", "Heal")),
    ("^/pay$", ("/pay", "/pay/1", "/pay\n", "")),
    ("^$", ("", "\n", " ")),
    (".*", ("", "a\nb", "x")),
    ("", ("", "x")),
    ("(?i)CHECKOUT", ("checkout", "ChecKout", "chec\u212aout", "check out")),  # the Kelvin sign folds to k
    ("^/users/[0-9]+$", ("/users/7", "/users/", "/users/\u0667")),
    (r"^/users/\d+/", ("/users/77/orders", "/users/77", "/users/x/")),
    ("a.b", ("a.b", "a\nb", "ab", "aéb")),
    ("(?s)^a.b$", ("a\nb", "a.b", "a..b")),
    ("(?m)^b$", ("a\nb", "b", "ab")),
    (r"\bpay\b", (" pay ", "/pay", "payed", "épayé")),
    ("^.{3}$", ("été", "日本語", "abcd", "ab")),
    ("^[^/]+$", ("gold", "/pay", "a\nb")),
    (r"^\pL+$", ("été", "日本語", "a1", "")),
    ("[[:upper:]]", ("Checkout", "checkout", "É")),
    ("^(gold|prod)$", ("gold", "prod", "golden")),
    (r"\Aa\.b\z", ("a.b", "a.b\n", "axb")),
    ("x{40}", ("x" * 40, "x" * 39)),
    (r"\Qa.b\E", ("a.b", "a\nb")),
    ("(?U)^a+b?", ("ab", "aab", "b")),
)
BAD_PATTERNS = ("(", "(?!x)", "a{1001}", "(a{100}){100}", "x**", r"\8", "[z-a]", "(?P<n", r"\Z", "(?<=a)b", "a++", ")")

STATES = (
    "a=1", "a=1", "a=2", "a=1", "a=2", "b=1", "a=1,b=2", "b=2,a=1", "a=2", "a= 1", "A=1", "a=1,a=2", "a=", "=1", "a", "a b=1", ",", "a=1,", " a=1 ", "a=1;b", "rojo@x=1",
    "a=" + "y" * 256, "a=1=2", "a=1\t,b=2",
)  # fmt: skip


def any_value(value: object) -> Json:
    """OTLP JSON's AnyValue of a Python value; None has no value at all."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(member) for member in value]}}
        case dict():
            return {"kvlistValue": {"values": attributes(list(value.items()))}}
        case bytes():
            return {"bytesValue": value.decode("ascii")}  # base64 already
    return {"stringValue": value}


def attributes(pairs: list[tuple[str, object]]) -> list[Json]:
    """OTLP JSON's attributes."""
    return [{"key": key, "value": any_value(value)} for key, value in pairs]


@attrs.define
class Hints:
    """What a configuration looks at: values on both sides of each of its limits."""

    attributes: list[tuple[str, object]] = attrs.Factory(list)
    durations_ns: list[int] = attrs.Factory(list)
    counts: list[int] = attrs.Factory(list)
    states: list[str] = attrs.Factory(list)
    randomness: list[int] = attrs.Factory(list)
    names: list[str] = attrs.Factory(list)
    flags: bool = False
