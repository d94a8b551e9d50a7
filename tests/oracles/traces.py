"""Random traces as OTLP JSON, odd ones among them, with values on both sides of a configuration's limits."""

from __future__ import annotations

from typing import Any

from tests.oracles.chance import Chance
from tests.oracles.words import BOOLEAN_KEYS, KEYS, NUMBER_KEYS, STATES, STRING_KEYS, STRINGS, Hints, any_value

Json = Any
BASE_NS = 1_700_000_000_000_000_000
ODD_VALUES: tuple[object, ...] = (
    "", 0, -1, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), 0.0, -0.0, 1.5, 5.0, 1e300, True, False, [], [1, "x"], {}, {"a": 1}, {"a": {"b": 2}},
    b"AQI=", "été", None,
)  # fmt: skip
FLAGS = (0, 0, 0, 1, 2, 3, 0x100, 0x101, 0x300, 0xFF, 0x80000001, 0x80000000)
LAST_NS = (1 << 64) - 1
EXTREME_NS = (0, 1, BASE_NS, (1 << 63) - 1, 1 << 63, LAST_NS, 999_999)
NAMES = ("op", "GET /pay", "POST /v2/orders", "", "op")
SCOPES = ("lib", "", "http")


class Traces:
    """The traces of one configuration."""

    def __init__(self, chance: Chance, hints: Hints) -> None:
        self._chance = chance
        self._hints = hints
        # One in two traces has few of the attributes that are looked at: else everything would match.
        self._rare = False

    def requests(self, count: int) -> list[Json]:
        """So many traces, nearly always one a request. One in thirty comes in two requests, or shares one with the trace before."""
        made: list[Json] = []
        for _ in range(count):
            trace = self._trace()
            resources = trace["resourceSpans"]
            if made and self._chance.maybe(0.03):
                made[-1]["resourceSpans"] += resources
            elif made and self._chance.maybe(0.05):
                self._mixed(made[-1]["resourceSpans"], resources)
            elif len(resources) > 1 and self._chance.maybe(0.1):
                made += [{"resourceSpans": resources[:1]}, {"resourceSpans": resources[1:]}]
            else:
                made.append(trace)
        return made

    def _mixed(self, into: list[Json], resources: list[Json]) -> None:
        """The spans of one trace among those of another: under the same resource and scope, in any order."""
        chance = self._chance
        into += resources[1:]
        spans = chance.one([scope["spans"] for resource in into for scope in resource["scopeSpans"]])
        for scope in resources[0]["scopeSpans"]:
            for span in scope["spans"]:
                spans.insert(chance.below(len(spans) + 1), span)

    def _trace(self) -> Json:
        chance = self._chance
        self._rare = chance.maybe(0.5)
        trace_id = self._trace_id()
        counts = self._hints.counts
        count = (
            max(1, chance.one(counts))
            if counts and chance.maybe(0.6)
            else chance.weighted([(60, 1), (50, 2), (30, 3), (20, 5), (10, 9), (1, 70)])
        )
        spans = self._spans(trace_id, count)
        resources = []
        while spans:
            taken = chance.between(1, len(spans)) if chance.maybe(0.6) else len(spans)
            if chance.maybe(0.02):
                resources.append(self._resource([]))  # what it says is of no trace
            resources.append(self._resource(spans[:taken]))
            spans = spans[taken:]
        return {"resourceSpans": resources}

    def _trace_id(self) -> str:
        chance = self._chance
        if self._hints.randomness and chance.maybe(0.3):
            return chance.hex(18) + f"{chance.one(self._hints.randomness):014x}"
        return chance.hex(31) + "5"  # never all zeros

    def _resource(self, spans: list[Json]) -> Json:
        chance = self._chance
        made: Json = {"scopeSpans": []}
        if not chance.maybe(0.05):
            made["resource"] = {"attributes": self._attributes(chance.between(0, 2), 0.25)}
            if chance.maybe(0.05):
                made["resource"]["droppedAttributesCount"] = chance.between(0, 2)
        if chance.maybe(0.05):
            made["schemaUrl"] = "https://opentelemetry.io/schemas/1.21.0"
        if chance.maybe(0.02):
            made["scopeSpans"].append(self._scope([]))
        while spans:
            taken = chance.between(1, len(spans)) if chance.maybe(0.4) else len(spans)
            made["scopeSpans"].append(self._scope(spans[:taken]))
            spans = spans[taken:]
        return made

    def _scope(self, spans: list[Json]) -> Json:
        chance = self._chance
        made: Json = {"spans": spans}
        if not chance.maybe(0.1):
            made["scope"] = {"name": chance.one(SCOPES), "version": chance.one(["", "1.0"])}
            if chance.maybe(0.2):
                made["scope"]["attributes"] = self._attributes(2, 1)
        return made

    def _spans(self, trace_id: str, count: int) -> list[Json]:
        chance, hints = self._chance, self._hints
        whole = (
            chance.one(hints.durations_ns)
            if hints.durations_ns and chance.maybe(0.7)
            else chance.between(0, 20_000_000_000)
        )
        states = self._states()
        made = []
        for at in range(count):
            start, end = (min(max(time, 0), LAST_NS) for time in self._times(whole, first=at == 0))
            span: Json = {"traceId": trace_id, "spanId": f"{chance.between(1, 2 * count):016x}"}
            if at and chance.maybe(0.8):
                span["parentSpanId"] = f"{chance.between(0, 2 * count):016x}"
            span["name"] = chance.one(hints.names) if hints.names and chance.maybe(0.2) else chance.one(NAMES)
            span |= {"kind": chance.between(0, 5), "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
            span["attributes"] = self._attributes(
                chance.weighted([(5, 0), (4, 1), (3, 2), (1, 5)]), 0.12 if self._rare else 0.45
            )
            self._finish(span, start, states)
            made.append(self._as_others_write(span) if chance.maybe(0.05) else span)
        return made

    @staticmethod
    def _as_others_write(span: Json) -> Json:
        """64-bit numbers as numbers: JSON allows both."""
        return span | {key: int(span[key]) for key in ("startTimeUnixNano", "endTimeUnixNano")}

    def _finish(self, span: Json, start: int, states: list[str]) -> None:
        chance = self._chance
        if chance.maybe(0.7):
            span["status"] = {"code": chance.weighted([(6, 0), (2, 1), (2, 2), (0, 3)])}
            if chance.maybe(0.1):
                span["status"]["message"] = chance.one(STRINGS)
        flags = chance.one(FLAGS) if chance.maybe(0.5 if self._hints.flags else 0.1) else 0
        if flags:
            span["flags"] = flags
        if states and chance.maybe(0.5):
            span["traceState"] = chance.one(states)
        if chance.maybe(0.2):
            span["events"] = [self._event(start) for _ in range(chance.between(1, 3))]
        if chance.maybe(0.03):
            span["droppedAttributesCount"] = chance.between(0, 3)
        if chance.maybe(0.03):
            span["links"] = [
                {"traceId": chance.hex(31) + "1", "spanId": chance.hex(15) + "1", "attributes": self._attributes(1, 1)}
            ]

    def _event(self, start: int) -> Json:
        made: Json = {"timeUnixNano": str(start), "name": self._chance.one(["exception", "", "op", "retry"])}
        made["attributes"] = self._attributes(self._chance.between(0, 2), 0.4)
        return made

    def _times(self, whole: int, *, first: bool) -> tuple[int, int]:
        """Start and end of a span. The first one may last as long as the trace, or be the shorter one that comes first."""
        chance = self._chance
        if first and chance.maybe(0.6):
            start, end = BASE_NS, BASE_NS + whole
        else:
            start = BASE_NS + chance.between(0, abs(whole))
            end = start + chance.between(0, abs(whole) // 2)
            if chance.maybe(0.2):
                end = BASE_NS + whole
        match chance.weighted(
            [(32, "as it is"), (1, "start 0"), (1, "end 0"), (1, "backwards"), (1, "both 0"), (1, "extreme")]
        ):
            case "start 0":
                return 0, end
            case "end 0":
                return start, 0
            case "backwards":
                return end, start
            case "both 0":
                return 0, 0
            case "extreme":
                return chance.one(EXTREME_NS), chance.one(EXTREME_NS)
        return start, end

    def _states(self) -> list[str]:
        """Tracestates of a trace's spans: OpenTelemetry's own entry in most, whether it is asked for or not."""
        chance, hints = self._chance, self._hints
        states = chance.some(STATES, 1, 2) if hints.states or chance.maybe(0.1) else []
        if hints.randomness or chance.maybe(0.1):
            for _ in range(chance.between(0, 2)):
                drawn = chance.one(hints.randomness) if hints.randomness else 5
                states.append(self._sampling_state(f"{drawn:014x}"))
        return states

    def _sampling_state(self, rv: str) -> str:
        chance = self._chance
        entry = chance.weighted(
            [
                (4, f"rv:{rv}"), (3, f"rv:{rv};th:c"), (3, f"th:8;rv:{rv}"), (2, "th:8"), (1, "th:0"), (1, "th:zz"), (1, "rv:123"), (1, ""), (1, "x:y"),
                (1, f"rv:{rv.upper()}"), (1, f"rv:{rv};th:8 "), (1, f"rv:{rv};x"), (1, f"rv:{rv};;th:8"), (1, "th:123456789abcdef"), (1, "th:8;th:c"),
                (1, f"rv: {rv}"), (1, f"rv:{rv}0"), (1, f"rv:{rv};x:{'y' * 250}"), (1, f"X:1;rv:{rv}"), (1, f"rv:{rv};x:Y;th:4"), (1, f"th:8;x:y;rv:{rv}"), (1, f"rv:{rv};rv:{'0' * 14}"), (1, "th:"), (1, f"rv:{rv};"), (1, f"th:{rv}"),
            ]
        )  # fmt: skip
        return chance.weighted(
            [
                (6, f"ot={entry}"),
                (1, f"a=1,ot={entry}"),
                (1, f"ot={entry},b=2"),
                (1, f" ot={entry} "),
                (1, f"ot={entry},ot=th:0"),
            ]
        )

    def _attributes(self, count: int, hinted: float) -> list[Json]:
        """So many, and with probability `hinted` one more that the configuration looks at. A key twice now and then."""
        chance = self._chance
        pairs = [self._any() for _ in range(count)]
        if self._hints.attributes and chance.maybe(hinted):
            pairs.insert(chance.below(count + 1), chance.one(self._hints.attributes))
        if chance.maybe(0.95):
            pairs = list({key: (key, value) for key, value in pairs}.values())
        return [{"key": key, "value": any_value(value)} for key, value in pairs]

    def _any(self) -> tuple[str, object]:
        chance = self._chance
        if chance.maybe(0.2):
            return chance.one(KEYS), chance.one(ODD_VALUES)
        match chance.between(0, 2):
            case 0:
                return chance.one(STRING_KEYS), chance.one(STRINGS)
            case 1:
                return chance.one(NUMBER_KEYS), chance.between(-5, 600)
        return chance.one(BOOLEAN_KEYS), chance.maybe(0.5)
