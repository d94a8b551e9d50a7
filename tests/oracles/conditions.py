"""Random OTTL conditions over the fields that random traces have."""

from __future__ import annotations

import json

from tests.oracles.chance import Chance
from tests.oracles.words import BOOLEAN_KEYS, KEYS, NUMBER_KEYS, PATTERNS, STRING_KEYS, STRINGS, Hints

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
NAMES = ("op", "GET /pay", "POST /v2/orders", "", "exception")
SPAN_TEXTS = (
    "name", "span.name", "kind.string", "status.message", "trace_id.string", "span_id.string", "parent_span_id.string",
    "instrumentation_scope.name", "scope.version", "resource.schema_url", "trace_state", 'trace_state["a"]',
)  # fmt: skip
SPAN_NUMBERS = (
    "kind", "status.code", "flags", "dropped_attributes_count", "dropped_events_count", "dropped_links_count",
    "start_time_unix_nano", "end_time_unix_nano", "end_time_unix_nano - start_time_unix_nano", "span.kind",
    "Len(attributes)", "resource.dropped_attributes_count",
)  # fmt: skip
EVENT_TEXTS = ("name", "spanevent.name", "span.name", "instrumentation_scope.name")
EVENT_NUMBERS = (
    "time_unix_nano",
    "dropped_attributes_count",
    "event_index",
    "span.kind",
    "spanevent.dropped_attributes_count",
)


class Conditions:
    """Conditions of one configuration. `hints` learns what they look at."""

    def __init__(self, chance: Chance, hints: Hints) -> None:
        self._chance = chance
        self._hints = hints
        self._event = False

    def condition(self, *, event: bool = False) -> str:
        """Of a span, or of a span event. One in fifty is damaged: most of those are refused."""
        self._event = event
        made = self._any_of(self._chance.between(0, 2))
        return self._damaged(made) if self._chance.maybe(0.02) else made

    def _damaged(self, text: str) -> str:
        at = self._chance.below(len(text) + 1)
        piece = self._chance.one(
            ["'", '"', " ", "(", ")", "[", "]", ".", ",", "x", "1", "=", "!", "and", "AND", "or", "-", "é", "|", ""]
        )
        return text[:at] + piece + text[at + self._chance.between(0, 1) :]

    def _any_of(self, depth: int) -> str:
        """A boolean expression so deep."""
        chance = self._chance
        if depth <= 0 or chance.maybe(0.3):
            return self._simple()
        match chance.weighted([(4, "and"), (4, "or"), (2, "not"), (2, "()")]):
            case "not":
                return f"not {self._simple()}" if chance.maybe(0.5) else f"not ({self._any_of(depth - 1)})"
            case "()":
                return f"({self._any_of(depth - 1)})"
            case joined:
                return f" {joined} ".join(self._any_of(depth - 1) for _ in range(chance.between(2, 3)))

    def _simple(self) -> str:
        chance = self._chance
        match chance.weighted(
            [(10, "text"), (10, "number"), (4, "truth"), (4, "nil"), (5, "mixed"), (8, "call"), (1, "constant")]
        ):
            case "text":
                return self._compared_text()
            case "number":
                return self._compared_number()
            case "truth":
                key = chance.one(BOOLEAN_KEYS)
                self._hints.attributes += [(key, True), (key, False), (key, "true")]
                return f"{self._path(key)} {chance.one(['==', '!=', '=='])} {chance.one(['true', 'false'])}"
            case "nil":
                key = chance.one(KEYS)
                self._hints.attributes.append((key, "there"))
                compared = [self._path(key), "nil"]
                at = chance.below(2)
                return f"{compared[at]} {chance.one(['==', '!='])} {compared[1 - at]}"
            case "mixed":
                return f"{self._either()} {chance.one(COMPARISONS)} {self._either()}"
            case "call":
                return self._call()
        return chance.one(["true", "false", "1 == 1", "not true", "true == false"])

    def _either(self) -> str:
        return self._text() if self._chance.maybe(0.5) else self._number(1)

    def _path(self, key: str) -> str:
        chance = self._chance
        quoted = json.dumps(key, ensure_ascii=False)
        places = [(6, "span.attributes"), (4, "attributes"), (3, "resource.attributes"), (1, "scope.attributes")]
        if self._event:
            places = [
                (5, "spanevent.attributes"),
                (4, "attributes"),
                (2, "span.attributes"),
                (2, "resource.attributes"),
            ]
        return f"{chance.weighted(places)}[{quoted}]"

    def _text(self) -> str:
        chance = self._chance
        match chance.weighted([(6, "path"), (4, "field"), (1, "lower"), (1, "cut"), (1, "joined"), (1, "text")]):
            case "path":
                return self._path(chance.one(STRING_KEYS))
            case "field":
                return chance.one(EVENT_TEXTS if self._event else SPAN_TEXTS)
            case "lower":
                return f"{chance.one(['ToLowerCase', 'ToUpperCase'])}({self._path(chance.one(STRING_KEYS))})"
            case "cut":
                return (
                    f"Substring({self._path(chance.one(STRING_KEYS))}, {chance.between(0, 2)}, {chance.between(1, 4)})"
                )
            case "joined":
                return f'Concat([name, {self._path(chance.one(KEYS))}], "-")'
        return f"String({self._path(chance.one(KEYS))})"

    def _number(self, depth: int) -> str:
        chance = self._chance
        if depth <= 0:
            return chance.one(["0", "1", "2", "-1", "5", "200", "1.5", "5.0", "500"])
        kinds = [(6, "path"), (4, "field"), (2, "sum"), (1, "divided"), (1, "length"), (1, "read"), (2, "constant")]
        match chance.weighted(kinds):
            case "path":
                return self._path(chance.one(NUMBER_KEYS))
            case "field":
                return chance.one(EVENT_NUMBERS if self._event else SPAN_NUMBERS)
            case "sum":
                return f"{self._number(depth - 1)} {chance.one(['+', '-', '*'])} {self._number(depth - 1)}"
            case "divided":
                return f"{self._path(chance.one(NUMBER_KEYS))} / {self._number(depth - 1)}"
            case "length":
                return f"Len({self._text()})"
            case "read":
                return f"{chance.one(['Int', 'Double'])}({self._path(chance.one(KEYS))})"
        return self._number(0)

    def _compared_text(self) -> str:
        chance = self._chance
        if chance.maybe(0.5):
            key, text = chance.one(STRING_KEYS), chance.one(STRINGS)
            self._hints.attributes += [(key, text), (key, text + "x")]
            left = self._path(key)
        else:
            left, text = self._text(), chance.one([*STRINGS, *NAMES, "Server", "Unspecified", "1"])
            self._hints.names.append(text)
        return f"{left} {chance.one(COMPARISONS)} {_quoted(text)}"

    def _compared_number(self) -> str:
        chance = self._chance
        if chance.maybe(0.5):
            key, limit = chance.one(NUMBER_KEYS), chance.one([0, 1, 5, 200, 404, 500, -3])
            self._hints.attributes += [(key, limit - 1), (key, limit), (key, float(limit)), (key, limit + 1)]
            right = chance.one([str(limit), f"{limit}.0", str(limit)])
            return f"{self._path(key)} {chance.one(COMPARISONS)} {right}"
        if chance.maybe(0.3) and not self._event:
            took_ms = chance.one([1, 5, 100, 1000])
            self._hints.durations_ns += [took_ms * 1_000_000 + off for off in (-1, 0, 1)]
            if chance.maybe(0.5):
                return f'end_time - start_time {chance.one(COMPARISONS)} Duration("{took_ms}ms")'
            return f"end_time_unix_nano - start_time_unix_nano {chance.one(COMPARISONS)} {took_ms * 1_000_000}"
        return f"{self._number(1)} {chance.one(COMPARISONS)} {self._number(1)}"

    def _call(self) -> str:
        chance = self._chance
        match chance.weighted([(6, "match"), (3, "prefix"), (3, "is"), (1, "root"), (2, "enum"), (1, "compared")]):
            case "match":
                key, (pattern, texts) = chance.one(STRING_KEYS), chance.one(PATTERNS)
                self._hints.attributes += [(key, text) for text in texts]
                return f"IsMatch({self._path(key)}, {_quoted(pattern)})"
            case "prefix":
                key, text = chance.one(STRING_KEYS), chance.one(STRINGS)
                self._hints.attributes += [(key, text + "x"), (key, "x" + text)]
                return f"{chance.one(['HasPrefix', 'HasSuffix'])}({self._path(key)}, {_quoted(text)})"
            case "is":
                return f"{chance.one(['IsString', 'IsInt', 'IsDouble', 'IsBool', 'IsMap', 'IsList'])}({self._path(chance.one(KEYS))})"
            case "root" if not self._event:
                return "IsRootSpan()"
            case "enum" if not self._event:
                return chance.one(
                    [
                        "kind == SPAN_KIND_SERVER",
                        "status.code == STATUS_CODE_ERROR",
                        "kind != SPAN_KIND_INTERNAL",
                        "status.code != STATUS_CODE_UNSET",
                    ]
                )
        return f"{self._call_of_two()} == {chance.one(['true', 'false'])}"

    def _call_of_two(self) -> str:
        return f"ContainsValue([{self._number(0)}, {_quoted(self._chance.one(STRINGS))}], {self._either()})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
