"""Random conditions and traces, and what pkg/ottl would see of them: for our evaluator and for the real one alike.

All chance comes from the `Random` that is handed in. `tests.oracles.asking` asks the Collector's own pkg/ottl.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tss.core.conditions.formula import Found, Place, Truth
from tss.core.conditions.language import Condition, ConditionError, Context, parse

Json = Any
ANSWERS = {0: "False", 1: "True", 2: "ERROR"}

KEYS = ("k", "n", "d", "b", "l", "m", "x", "u", "raw", "e", "http.route", "missing")
TEXTS = ("", "a", "v", "5", "-7", "1.5", "GET /pay", "op", "true", "Ünï", "a=1 b=2", '{"a":1,"b":[1,"x"]}', "[1,2]", "x,y", "5ms",
         "10.1.2.3", "1e3", "0x1F", "<&>", "79927398713", "0cc175b9c0f1b6a831c399e269772661", "0000000000000001", "nan")  # fmt: skip
INTS = (0, 1, 2, 3, 5, -1, 200, 404, 500, 2**31, 2**63 - 1, -(2**63), 2**53 + 1, 10_000_000)
FLOATS = (0.0, 1.0, 1.5, -2.5, 5.0, 0.1, 1e21, 1e-7, 2.0**53, 500.0, 3.0)
PATTERNS = (
    "^a",
    "5",
    ".*",
    "^$",
    "op|v",
    "[0-9]+",
    "(?i)GET",
    r"\\d+$",
    "(?P<first>[a-z])(?P<rest>.*)",
    "^true$",
    "e",
    "(",
    "a{2,1}",
)
TRACE_IDS = (bytes.fromhex("0cc175b9c0f1b6a831c399e269772661"), bytes(15) + b"\1")
SPAN_IDS = (bytes(7) + b"\1", bytes(7) + b"\2", bytes.fromhex("00f067aa0ba902b7"))
STATES = ("", "a=1", "a=1,b=2", "ot=th:8;rv:0123456789abcd", "bad", "a=1,a=2", " a=1 ,b=2", "a=", "1x@s=v")
BASE_NS = 1_700_000_000_000_000_000


def any_value(value: Found) -> Json:
    """A value as OTLP's JSON has it."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case Mapping():
            return {"kvlistValue": {"values": _pairs(value)}}
    return {"arrayValue": {"values": list(map(any_value, value))}}


def _pairs(attributes: Mapping[str, Found]) -> Json:
    return [{"key": key, "value": any_value(value)} for key, value in attributes.items()]


class View:
    """What a condition sees of a span. `given` has the fields by place and name."""

    def __init__(self, given: Mapping[Place, Mapping[str, Found]]) -> None:
        self._given = given

    def value(self, place: Place, name: str) -> Found:
        its: Mapping[str, Any] = self._given[place]
        if name == "duration":
            return int(its["end_time_unix_nano"] - its["start_time_unix_nano"])
        return its[name]

    def event(self, given: Mapping[str, Found]) -> View:
        return View({**self._given, Place.EVENT: given})


class Cases:
    """Random conditions and traces."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pick = rng.choice

    # -- traces

    def value(self, depth: int = 0) -> Found:
        kind = self._rng.randrange(9 if depth < 2 else 6)
        match kind:
            case 0 | 1:
                return self._pick(TEXTS)
            case 2:
                return self._pick(INTS)
            case 3:
                return self._pick(FLOATS)
            case 4:
                return self._rng.random() < 0.5
            case 5:
                return self._pick((b"", b"\1\2", bytes(8), None))
            case 6 | 7:
                return [self.value(depth + 1) for _ in range(self._rng.randrange(4))]
        return {self._pick(("a", "b", "k", "x y")): self.value(depth + 1) for _ in range(self._rng.randrange(3))}

    def attributes(self) -> dict[str, Found]:
        rng = self._rng
        usual: dict[str, Found] = {
            "k": "v", "n": 5, "d": 1.5, "b": True, "l": [1, 2, 3], "m": {"a": 1, "b": {"c": "x"}}, "http.route": "/pay", "raw": b"\1\2",
        }  # fmt: skip
        found = {key: value for key, value in usual.items() if rng.random() < 0.6}
        for key in rng.sample(KEYS[:-1], rng.randrange(5)):
            found[key] = self.value()
        # An empty value that is asked for keys below it differs, see `DEVIATIONS`.
        return {key: value for key, value in found.items() if value is not None}

    def span(self) -> dict[str, Found]:
        rng, pick = self._rng, self._pick
        start = pick((0, BASE_NS, BASE_NS + 10_000_000, 1))
        return {
            "trace_id": pick(TRACE_IDS),
            "span_id": pick(SPAN_IDS),
            "parent_span_id": pick((bytes(8), *SPAN_IDS)),
            "trace_state": pick(STATES),
            "name": pick(TEXTS),
            "kind": rng.randrange(7),
            "start_time_unix_nano": start,
            "end_time_unix_nano": start + pick((0, 1, 5_000_000, 10_000_000, 2_000_000_000, 90 * 60 * 10**9)),
            "attributes": self.attributes(),
            "dropped_attributes_count": pick((0, 1)),
            "events": [self.event() for _ in range(rng.randrange(3))],
            "dropped_events_count": pick((0, 2)),
            "links": [],
            "dropped_links_count": 0,
            "status.code": rng.randrange(3),
            "status.message": pick(("", "why", "a")),
            "flags": pick((0, 1, 256, 257)),
        }

    def event(self) -> dict[str, Found]:
        return {
            "name": self._pick(("exception", "a", "")),
            "time_unix_nano": self._pick((0, BASE_NS, BASE_NS + 1)),
            "attributes": self.attributes(),
            "dropped_attributes_count": 0,
        }

    def trace(self) -> dict[Place, Any]:
        """A resource, a scope and one to three spans."""
        return {
            Place.RESOURCE: {
                "attributes": self.attributes() | {"service.name": self._pick(("s", "checkout"))},
                "dropped_attributes_count": 0,
                "schema_url": self._pick(("", "https://s/1")),
            },
            Place.SCOPE: {
                "name": self._pick(("lib", "")), "version": self._pick(("1.2", "")), "attributes": self.attributes(),
                "dropped_attributes_count": 0, "schema_url": "",
            },
            Place.SPAN: [self.span() for _ in range(self._rng.randrange(1, 4))],
        }  # fmt: skip

    # -- conditions

    def condition(self, context: Context = Context.SPAN) -> str:
        """Mostly right, now and then broken."""
        self._context = context
        text = self._logic(0)
        if self._rng.random() < 0.04:
            text = self._broken(text)
        return text or "true"

    def _broken(self, text: str) -> str:
        at, rng = self._rng.randrange(len(text) + 1), self._rng
        match rng.randrange(4):
            case 0:
                return text[:at] + text[at + 1 :]
            case 1:
                return (
                    text[:at]
                    + self._pick([*"()[]{}.,\"'=<>!+-*/ 0aA_\\\n&", "not ", " and ", "0x", "nil", "=>"])
                    + text[at:]
                )
            case 2:
                return text[:at]
        return text.replace("==", self._pick(("=", "===", "in", "=~")), 1)

    def _logic(self, depth: int) -> str:
        chance = self._rng.random()
        if depth > 2 or chance < 0.5:
            return self._comparison()
        if chance < 0.7:
            return f"{self._logic(depth + 1)} {self._pick(('and', 'or'))} {self._logic(depth + 1)}"
        if chance < 0.8:
            return f"({self._logic(depth + 1)})"
        if chance < 0.9:
            return f"not {self._inner(depth)}"
        return self._pick(("true", "false", self._call(0), self._asked()))

    def _inner(self, depth: int) -> str:
        return f"({self._logic(depth + 1)})" if self._rng.random() < 0.7 else self._asked()

    def _comparison(self) -> str:
        operator = self._pick(("==", "==", "==", "!=", "<", "<=", ">", ">="))
        left, right = self._value(0), self._value(0)
        chance = self._rng.random()
        if chance < 0.45:
            left, right = self._path(), self._literal()
        elif chance < 0.55:
            left, right = self._literal(), self._path()
        elif chance < 0.6:
            left = f"{self._pick(('end_time - start_time', 'end_time_unix_nano - start_time_unix_nano'))}"
            right = self._pick(
                ('Duration("5ms")', "5000000", "10000000.0", 'Duration("1h30m")', '-Duration("1s")', "0")
            )
        if self._rng.random() < 0.1:
            return self._asked()
        return f"{left}{self._pick((' ', '', '  '))}{operator} {right}"

    def _asked(self) -> str:
        one = self._pick((
            lambda: f"IsMatch({self._value(1)}, {self._quoted(PATTERNS)})",
            lambda: f"IsMatch({self._path()}, {self._quoted(PATTERNS)})",
            lambda: f"{self._pick(('IsString', 'IsInt', 'IsDouble', 'IsBool', 'IsMap', 'IsList', 'IsEmpty'))}({self._value(1)})",
            lambda: f"{self._pick(('HasPrefix', 'HasSuffix'))}({self._value(1)}, {self._value(1)})",
            lambda: f"ContainsValue({self._value(1)}, {self._value(1)})",
            lambda: "IsRootSpan()",
            lambda: f'IsInCIDR({self._value(1)}, ["10.0.0.0/8", {self._quoted(("::1/128", "1.2.3.4/33", "10.1.2.0/24"))}])',
        ))  # fmt: skip
        return one()

    def _value(self, depth: int) -> str:
        chance = self._rng.random()
        if depth > 2 or chance < 0.35:
            return self._path()
        if chance < 0.6:
            return self._literal()
        if chance < 0.72:
            return f"{self._value(depth + 1)} {self._pick('+-*/')} {self._value(depth + 1)}"
        if chance < 0.76:
            return f"{self._pick('-+')}{self._value(depth + 1)}"
        if chance < 0.8:
            return f"({self._value(depth + 1)})"
        if chance < 0.84:
            return f"[{', '.join(self._value(depth + 1) for _ in range(self._rng.randrange(3)))}]"
        if chance < 0.86:
            # One key twice differs between v0.161 and v1.4.1, of which ours is the latter.
            keys = self._rng.sample(("a", "b", "x y"), self._rng.randrange(3))
            items = [f"{json.dumps(key)}: {self._value(depth + 1)}" for key in keys]
            return f"{{{', '.join(items)}}}"
        return self._call(depth)

    def _quoted(self, texts: tuple[str, ...]) -> str:
        text = self._pick(texts)
        return f'"{text}"' if "\\" in text else json.dumps(text, ensure_ascii=False)

    def _literal(self) -> str:
        match self._rng.randrange(12):
            case 0 | 1 | 2:
                return self._quoted(TEXTS)
            case 3 | 4:
                return str(self._pick(INTS))
            case 5 | 6:
                return self._pick(("1.5", "0.0", "5.0", ".5", "1.", "500.0", "1.0e3", "-2.5", "0.1"))
            case 7:
                return self._pick(("true", "false"))
            case 8:
                return "nil"
            case 9:
                return self._pick(
                    (
                        "0x0102",
                        "0x0000000000000000",
                        "0x1",
                        "010",
                        "08",
                        "SPAN_KIND_SERVER",
                        "STATUS_CODE_ERROR",
                        "WRONG",
                    )
                )
            case 10:
                return self._pick(
                    ("[1, 2, 3]", "[]", '["a"]', '[1, "x", nil, 1.5]', "[[1], [2]]", '{"a": 1}', "{}", '[{"a": 1}]')
                )
        return self._pick(('"\\u0041"', '"\\x41b"', '"\\101"', '"a\\"b"', '"\\q"', '"\\xff"', '"a\nb"', '"\\ud800"'))

    def _key(self) -> str:
        chance = self._rng.random()
        if chance < 0.85:
            return f'"{self._pick(KEYS)}"'
        return self._pick(
            ("0", "1", "9", "name", '"a"', 'attributes["k"]', "-1", "1.5", 'Concat(["k"], "")', "(1)", "status.code")
        )

    def _deep(self) -> str:
        return "".join(f"[{self._pick(('0', '1', '7', chr(34) + 'a' + chr(34), chr(34) + 'b' + chr(34), self._key()))}]"
                       for _ in range(self._rng.choice((0, 0, 0, 0, 1, 1, 2))))  # fmt: skip

    def _path(self) -> str:
        chance = self._rng.random()
        if chance < 0.5:
            place = self._pick(("", "", "span.", "resource.", "scope.", "instrumentation_scope."))
            if self._context is Context.SPAN_EVENT:
                place = self._pick((place, "spanevent.", ""))
            return f"{place}attributes[{self._key()}]{self._deep()}"
        plain = (
            "name", "kind", "kind.string", "kind.deprecated_string", "status.code", "status.message", "status", "trace_id",
            "trace_id.string", "span_id", "span_id.string", "parent_span_id", "parent_span_id.string", "trace_state", 'trace_state["a"]',
            "start_time", "end_time", "start_time_unix_nano", "end_time_unix_nano", "flags", "events", "links", "attributes",
            "dropped_attributes_count", "dropped_events_count", "dropped_links_count", 'cache["x"]', "cache",
        )  # fmt: skip
        if chance < 0.9:
            prefix = "span." if self._context is Context.SPAN_EVENT else self._pick(("", "", "span."))
            return prefix + self._pick(plain).removeprefix("cache" if prefix else "")
        return self._pick((
            "resource.schema_url", "resource.dropped_attributes_count", "scope.name", "scope.version", "resource.attributes",
            "scope.attributes", "instrumentation_scope.name", "scope.schema_url", "duration", "span.duration", "name.x", 'name["x"]',
            "spanevent.name", "event_index", "time", "time_unix_nano", "resource", "kind.x", "attributes.k",
            'trace_state["a"]["b"]', "trace_state[0]", "status.code.x", "scope.cache",
        ))  # fmt: skip

    def _call(self, depth: int) -> str:
        one = lambda: self._value(depth + 1)  # noqa: E731
        deep = self._deep() if self._rng.random() < 0.2 else ""
        name = self._pick(tuple(_CALLS))
        shape = self._pick(_CALLS[name])
        while "$" in shape:
            shape = shape.replace("$", one().replace("$", ""), 1)
        return f"{name}({shape}){deep}"


_ONE = ("$",)
_TIME_OF = ("start_time", "end_time", "$", "Unix(1700000000)", "Unix(-5, 7)")
_DURATION_OF = ('Duration("1h30m0.5s")', "end_time - start_time", "$", 'Duration("-1.5h")')
_CALLS: Mapping[str, tuple[str, ...]] = {
    "Bool": _ONE, "Double": _ONE, "Int": _ONE, "String": _ONE, "Len": _ONE, "Hex": _ONE, "IsEmpty": _ONE,
    "Coalesce": ("[$, $]", "[$]", "[]", "$"),
    "Concat": ('[$, $], "-"', '[$], ""', "[$, $], $", 'vals=[$], delimiter=","'),
    "ContainsValue": ("$, $", "[1, 2], $", 'attributes["l"], $'),
    "ConvertCase": ('$, "upper"', '$, "lower"', '$, "title"'),
    "Duration": ('"5ms"', '"1h30m"', '"x"', '"-1.5s"', '"0"', "$", '"1.123456789123456s"', '"9999999h"', '".5s"', '"1µs"'),
    "ExtractPatterns": ('$, "(?P<first>[a-z])(?P<rest>.*)"', '$, "a"', '$, "(?P<n>[0-9]+)?x*"'),
    "FNV": _ONE, "MD5": _ONE, "SHA1": _ONE, "SHA256": _ONE, "SHA512": _ONE,
    "HasPrefix": ("$, $", '$, "a"'), "HasSuffix": ("$, $", '$, "5"'),
    "Index": ("$, $", '$, "a"', "[1, 2, 3], $", 'attributes["l"], $'),
    "IsValidLuhn": ("$", '"79927398713"', '"7992 739 8713"', "18"),
    "Keys": ("$", "attributes", '{"a": 1}', 'attributes["m"]'), "Values": ("$", 'attributes["m"]'),
    "ParseInt": ("$, 10", '"0x1F", 0', '"1F", 16', '"z", 36', '"0b1_0", 0', '"12", $', '"1_0", 10', '"017", 0', '"", 10', '"9", 8'),
    "ParseJSON": ("$", '"{\\"a\\": [1, 2.5, null]}"', '"[1, true]"', '"5"', '"{\\"a\\":1}x"', '"[1e999]"'),
    "ParseKeyValue": ("$", '"a=1 b=2"', '"a:1,b:2", ":", ","', '"a=\'x y\' b=2"', '$, "=", "="', '"a=1", delimiter="="', '"k"'),
    "SpanID": ("0x0000000000000001", '"00f067aa0ba902b7"', "$", "0x01"),
    "TraceID": ("0x0cc175b9c0f1b6a831c399e269772661", '"0cc175b9c0f1b6a831c399e269772661"', "$", '"zz"'),
    "Split": ('$, ","', '$, ""', '"a,b", $'),
    "Substring": ("$, 0, 1", "$, 1, 2", "$, $, $", "$, 0, 2, true", "$, 0, 0", "$, start=0, length=1", "$, 0, 1, utf8_safe=true"),
    "ToLowerCase": _ONE, "ToUpperCase": _ONE,
    "Trim": ("$", '$, "a"', '" x "'), "TrimPrefix": ("$, $", '$, "a"'), "TrimSuffix": ("$, $", '$, "5"'),
    "TruncateTime": ('start_time, Duration("1h")', "$, $", 'start_time, Duration("0s")', 'Unix(-5, 7), Duration("7s")'),
    "Unix": ("1700000000", "$", "-1, 5", "$, $"),
    **dict.fromkeys(("UnixMicro", "UnixMilli", "UnixNano", "UnixSeconds"), _TIME_OF),
    **dict.fromkeys(("Year", "Month", "Day", "Minute", "Second", "Nanosecond", "Weekday", "Hour"),
                    ("start_time", "end_time", "$")),
    **dict.fromkeys(("Hours", "Minutes", "Seconds", "Milliseconds", "Microseconds", "Nanoseconds"), _DURATION_OF),
    "IsRootSpan": ("",),
    "Nothing": _ONE,
}  # fmt: skip


def views(trace: Mapping[Place, Any], context: Context) -> Iterator[View]:
    """What is asked, in order: each span, or each event of each span."""
    for span in trace[Place.SPAN]:
        view = View({Place.RESOURCE: trace[Place.RESOURCE], Place.SCOPE: trace[Place.SCOPE], Place.SPAN: span})
        if context is Context.SPAN:
            yield view
        else:
            yield from map(view.event, span["events"])


def otlp_json(trace: Mapping[Place, Any]) -> Json:
    """The trace as OTLP's JSON."""
    resource, scope = trace[Place.RESOURCE], trace[Place.SCOPE]
    return {
        "resourceSpans": [{
            "resource": {"attributes": _pairs(resource["attributes"])},
            "schemaUrl": resource["schema_url"],
            "scopeSpans": [{
                "scope": {"name": scope["name"], "version": scope["version"], "attributes": _pairs(scope["attributes"])},
                "schemaUrl": scope["schema_url"],
                "spans": list(map(_span_json, trace[Place.SPAN])),
            }],
        }],
    }  # fmt: skip


def _span_json(span: Mapping[str, Any]) -> Json:
    return {
        "traceId": span["trace_id"].hex(),
        "spanId": span["span_id"].hex(),
        "parentSpanId": span["parent_span_id"].hex() if any(span["parent_span_id"]) else "",
        "traceState": span["trace_state"],
        "name": span["name"],
        "kind": span["kind"],
        "startTimeUnixNano": str(span["start_time_unix_nano"]),
        "endTimeUnixNano": str(span["end_time_unix_nano"]),
        "attributes": _pairs(span["attributes"]),
        "droppedAttributesCount": span["dropped_attributes_count"],
        "droppedEventsCount": span["dropped_events_count"],
        "flags": span["flags"],
        "status": {"code": span["status.code"], "message": span["status.message"]},
        "events": [
            {
                "name": event["name"],
                "timeUnixNano": str(event["time_unix_nano"]),
                "attributes": _pairs(event["attributes"]),
            }
            for event in span["events"]
        ],
    }


def otlp_bytes(trace: Mapping[Place, Any]) -> bytes:
    """The trace as OTLP's protobuf."""
    found = otlp_json(trace)
    for group in found["resourceSpans"][0]["scopeSpans"]:
        for span in group["spans"]:  # protobuf's own JSON has bytes in base64
            for name in ("traceId", "spanId", "parentSpanId"):
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(found, TracesData()).SerializeToString()


def ours(text: str, context: Context, trace: Mapping[Place, Any]) -> list[str] | None:
    """Our answers, or None where the condition is refused."""
    try:
        condition: Condition = parse(text, context)
    except ConditionError:
        return None
    ask = condition.evaluator()
    answers: list[Truth] = [ask(view) for view in views(trace, context)]
    return [ANSWERS[answer] for answer in answers]


def questions(rng: Random, number: int) -> Iterator[tuple[str, Context, dict[Place, Any]]]:
    """Random conditions, each with a trace."""
    cases = Cases(rng)
    for _ in range(number):
        context = Context.SPAN if rng.random() < 0.85 else Context.SPAN_EVENT
        yield cases.condition(context), context, cases.trace()
