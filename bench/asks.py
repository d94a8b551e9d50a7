"""What `bench.policies.TWENTY` asks of spans, as a program."""

from __future__ import annotations

from attrs import frozen

from tss.core.conditions.formula import (
    FALSE,
    TRUE,
    All,
    Any,
    Ask,
    Compare,
    Field,
    Formula,
    Found,
    Leaf,
    Matches,
    OfSpans,
    Place,
    Truth,
    Window,
)
from tss.core.conditions.program import Program


@frozen
class Marked:
    """Whether a trace state has a member with this value."""

    member: str

    @property
    def told(self) -> str:
        return f"has {self.member!r}"

    def answer(self, value: Found) -> Truth:
        return TRUE if isinstance(value, str) and self.member in value.split(",") else FALSE


def _anywhere(key: str, *tests: Compare | Matches | All) -> Formula:
    """As the Collector's policies on attributes: of the span, or of its resource."""
    places = (Place.SPAN, Place.RESOURCE)
    return Any(tuple(Leaf(Field(place, "attributes", key), test) for place in places for test in tests))  # type: ignore[arg-type]


def _text(key: str, *values: str) -> OfSpans:
    return OfSpans(_anywhere(key, *(Compare("==", value) for value in values)))


def _between(key: str, least: int, most: int) -> OfSpans:
    def within(place: Place) -> Formula:
        field = Field(place, "attributes", key)
        return All((Leaf(field, Compare(">=", least)), Leaf(field, Compare("<=", most))))

    return OfSpans(Any((within(Place.SPAN), within(Place.RESOURCE))))


def _of_span(name: str, test: Compare | Matches | Marked) -> Leaf:
    return Leaf(Field(Place.SPAN, name), test)


def _attribute(key: str, operator: str, constant: str | int | bool) -> Leaf:
    return Leaf(Field(Place.SPAN, "attributes", key), Compare(operator, constant))


TWENTY: tuple[Ask, ...] = (
    OfSpans(_of_span("status.code", Compare("==", 2))),
    Window(5000),
    OfSpans(_anywhere("url.path", Matches("^/admin/"), Matches("^/internal/debug/"))),
    OfSpans(_anywhere("url.path", Matches("/(export|report)s?/[0-9a-f]+$"))),
    OfSpans(All((_attribute("http.response.status_code", ">=", 500), _attribute("http.request.method", "==", "POST")))),
    _text("http.route", "/v3/orders", "/v3/baskets", "/v3/refunds"),
    _text("service.name", "billing-legacy", "mail-legacy"),
    _between("http.response.status_code", 500, 599),
    _between("db.response.returned_rows", 100_000, 1 << 40),
    _text("db.system.name", "oracle", "db2"),
    _text("deployment.environment.name", "canary"),
    OfSpans(_anywhere("app.debug", Compare("==", True))),
    _text("tenant.id", "acme", "umbrella"),
    OfSpans(_of_span("name", Matches("^DELETE "))),
    OfSpans(All((_of_span("duration", Compare(">", 4_000_000_000)), _of_span("kind", Compare("==", 3))))),
    Window(10_000, 60_000),
    OfSpans(_of_span("trace_state", Marked("vendor=keep"))),
    _text("service.name", "checkout"),
    Window(3000),
)


def twenty() -> Program:
    """The program of the twenty policies. Two of them count spans, which asks nothing of them."""
    return Program(TWENTY)
