"""What leaves without values on the way straight to Datadog, where no agent takes them out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.test_apm_stats import chunk, span
from tests.core.test_compression_sql import literals
from tests.edges.traces import trace_of
from tss.core.formats.apm_stats.groups import around_of, name_of
from tss.core.formats.datadog import to_spans
from tss.core.formats.datadog.obfuscation import obfuscate
from tss.core.otlp.schema import TracesData
from tss.edges.http.datadog_trace_forms import V04, V07, Intake

SECRET = "jane@example.com"
STATEMENTS = ("sql.query", "db.statement", "db.query.text")


def obfuscated(span_type: str, resource: str = "r", **meta: str) -> dict[str, Any]:
    return obfuscate({"type": span_type, "resource": resource, "meta": meta, "metrics": {}})


@pytest.mark.parametrize("span_type", ["sql", "cassandra"])
def test_statements_in_resource_and_tags(span_type):
    text = f"SELECT a FROM t WHERE b = '{SECRET}'"
    found = obfuscated(span_type, text, **dict.fromkeys(STATEMENTS, text))
    assert {found["resource"], *found["meta"].values()} == {"SELECT a FROM t WHERE b = ?"}


@given(literals)
def test_no_literal_is_left(literal):
    text = f"SELECT a FROM t WHERE b IN ({literal}) AND c = {literal}"
    found = obfuscated("sql", text, **dict.fromkeys(STATEMENTS, text))
    if len(text) < 4096:
        assert {found["resource"], *found["meta"].values()} == {"SELECT a FROM t WHERE b IN (?) AND c = ?"}


def test_the_system_says_what_double_quotes_are():
    text = f'SELECT a FROM t WHERE b = "{SECRET}"'
    assert SECRET not in obfuscated("sql", text, **{"db.system": "mysql", "db.statement": text}).__repr__()


def test_a_statement_of_which_nothing_is_left_says_so():
    assert obfuscated("sql", "/* a */")["resource"] == "Non-parsable SQL query"
    assert obfuscated("sql", "")["resource"] == ""


@pytest.mark.parametrize("span_type", ["redis", "valkey"])
@pytest.mark.parametrize(("text", "expected"), [
    ("get cart:7", "GET"), ("config set a b", "CONFIG SET"), ("GET a\n\nDEL b", "GET DEL"), ("", ""),
    ("GET a\nGET b\nDEL c", "GET GET DEL ..."), ("GET a\nGET b\nDEL c\nDEL d", "GET GET DEL ..."), ("GET...", "..."),
    ("GET a\nDE...\nDEL b", "GET DEL"), ("GET a\nDE...", "GET ..."), ("GET\tcart:7", "GET"),
])  # fmt: skip
def test_commands(span_type, text, expected):
    key = f"{span_type}.raw_command"
    found = obfuscated(span_type, text, **{key: text})
    assert found["resource"] == expected
    assert found["meta"][key] == (f"{text.split()[0]} ?" if len(text.split()) > 1 else text)


@pytest.mark.parametrize(("span_type", "key", "text", "expected"), [
    ("memcached", "memcached.command", "set a 0 0 1\r\nx", ""),
    ("mongodb", "mongodb.query", '{"a": [1, {"b": "x"}], "c": null}', '{"a":["?",{"b":"?"}],"c":"?"}'),
    ("elasticsearch", "elasticsearch.body", '{"a": 1', "?"),
    ("opensearch", "opensearch.body", "[" * 100_000, "?"),
    ("web", "http.url", "https://u:p@h:1/x?y=a@b#z", "https://h:1/x?y=a@b#z"),
    ("http", "http.url", "http://h/a@b", "http://h/a@b"),
    ("http", "http.url", "//u@v@h", "//h"),
])  # fmt: skip
def test_tags_of_other_types(span_type, key, text, expected):
    assert obfuscated(span_type, **{key: text})["meta"] == {key: expected}
    assert obfuscated("custom", **{key: text})["meta"] == {key: text}


@pytest.mark.parametrize("card", ["4111111111111111", " 4111-1111 1111 1111", "501900000000", "2221000000000000"])
def test_cards(card):
    assert obfuscated("custom", card=card)["meta"] == {"card": "?"}
    for key in ("account_id", "_dd.card"):
        assert obfuscated("custom", **{key: card})["meta"] == {key: card}


@pytest.mark.parametrize(
    "other", ["41111111111", "41111111111111111", "2220999999999999", "9111111111111111", "4111x1111111111"]
)
def test_what_is_no_card_stays(other):
    assert obfuscated("custom", card=other)["meta"] == {"card": other}


SPANS: list[dict[str, Any]] = [
    {"db.system": "postgresql", "db.query.text": f"SELECT a FROM t WHERE b = '{SECRET}'"},
    {"db.system.name": "mysql", "db.statement": f'SELECT a FROM t WHERE b = "{SECRET}"'},
    {"db.system": "cassandra", "db.statement": f"SELECT a FROM t WHERE b = '{SECRET}'"},
    {"db.system": "redis", "db.statement": f"GET {SECRET}\nGET b\nGET c"},
    {"db.system": "sqlite", "db.statement": "-- nothing"},
    {"span.type": "valkey", "resource.name": f"get {SECRET}"},
    {"http.request.method": "GET"},
]


@pytest.mark.parametrize("attributes", SPANS)
def test_statistics_call_it_as_the_span_is_called(attributes):
    made = chunk("shop", span(1, kind=Span.SPAN_KIND_CLIENT, attributes=attributes))
    (resource_spans,) = TracesData.FromString(made).resource_spans
    (one,) = resource_spans.scope_spans[0].spans
    name = name_of(one.SerializeToString(), around_of(b""))
    (sent,) = map(obfuscate, to_spans(made))
    assert name is not None
    assert name.resource == sent["resource"]
    assert SECRET not in sent["resource"]


def test_only_where_no_agent_follows():
    text = f"SELECT a FROM t WHERE b = '{SECRET}'"
    made = chunk(
        "shop", span(1, kind=Span.SPAN_KIND_CLIENT, attributes={"db.system": "postgresql", "db.statement": text})
    )
    trace = trace_of([made], b"\1" * 16)
    for form, shows in ((V04(), True), (V07(), True), (Intake(), False)):
        (part,) = form.parts(trace)
        assert (SECRET.encode() in part.body) is shows


def test_the_smaller_parts_of_a_request_too():
    attributes = {"db.system": "postgresql", "db.statement": f"SELECT a FROM t WHERE b = '{SECRET}'"}
    spans = [span(number, kind=Span.SPAN_KIND_CLIENT, attributes=attributes) for number in (1, 2)]
    (part,) = Intake().parts(trace_of([chunk("shop", *spans)], b"\1" * 16))
    halves = Intake().halves(part)
    assert len(halves) == 2
    assert not any(SECRET.encode() in half.body for half in halves)
