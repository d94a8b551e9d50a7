"""What is taken out of spans before they go straight to Datadog, beside what the agent's own code takes out."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from tests.core.test_compression_sql import FORMS
from tests.real import oracle
from tss.core.formats.datadog.obfuscation import obfuscate

Json = dict[str, Any]
STATEMENTS = ("sql.query", "db.statement", "db.query.text")


def span(span_type: str, resource: str = "r", **meta: str) -> Json:
    return {
        "service": "s", "name": "n", "resource": resource, "type": span_type, "trace_id": 1, "span_id": 1, "parent_id": 0,
        "start": 10**18, "duration": 1, "error": 0, "meta": meta, "metrics": {},
    }  # fmt: skip


def both(spans: Sequence[Json]) -> list[tuple[Json, Json]]:
    """As we send them, and as an agent would with its defaults."""
    for number, each in enumerate(spans, start=1):
        each["span_id"] = number
    [payload] = oracle.processed(msgpack.packb([spans]), obfuscate=True)
    after = {each["span_id"]: each for chunk in payload["chunks"] for each in chunk["spans"]}
    assert len(after) == len(spans)
    return [(obfuscate(copy.deepcopy(each)), after[each["span_id"]]) for each in spans]


def bare(statement: str) -> str:
    """The agent drops quotes around names and commas after values, and puts spaces around most signs."""
    return re.sub(r"[\s,\"`\[\]]", "", statement)


# Where the two differ in more than that: the agent's words. Where it does not
# read a dialect (PostgreSQL's operators, slices and casts, SQL Server's N'', a name after `=`), we do; what stands in double quotes we take
# for a name but of MySQL and its like, where the agent often takes it for a value; null and true stay.
DIFFERENT = {
    # `"a"."b" = "c"."d"` is a join: the agent takes the name for a value
    '"shop_order"."id" = "shop_line_2"."order_id"': "shop_order . id = ? . order_id",
    # an alias goes
    "SELECT a.id AS a_id FROM a": "SELECT a.id FROM a",
    # parameters that stand for values stay, and so lists of them are as many as there are values
    "SELECT a FROM b WHERE c = :id_1": "SELECT a FROM b WHERE c = :id_1",
    "SELECT a FROM b WHERE c = @p1": "SELECT a FROM b WHERE c = @p1",
    # a list of casts is no list
    "SELECT a FROM b WHERE c IN ($1::INTEGER, $2::INTEGER)": "SELECT a FROM b WHERE c IN ( ? :: INTEGER, ? :: INTEGER )",
    # prefixes of texts stay
    "SELECT a FROM b WHERE c = N'x'": "SELECT a FROM b WHERE c = N ?",
    "SELECT a FROM b WHERE c = X'1f'": "SELECT a FROM b WHERE c = X ?",
    # a slice's end is left in
    "SELECT a[1:2]": "SELECT a [ ? :2 ]",
    # signs
    "SELECT a-5": "SELECT a ?",
    "SELECT a FROM b WHERE c->>'k' = 'v'": "SELECT a FROM b WHERE c ? > > ? = ?",
    # `null`, `true` and `false` are values
    "SELECT a FROM b WHERE c IS NULL AND d = true": "SELECT a FROM b WHERE c IS ? AND d = ?",
}  # fmt: skip
SAME = [
    "SELECT a, b FROM t WHERE c = 'jane' AND d = 7 AND e > -1.5",
    "select o.id,o.sku from items o where o.order_id=? and o.sku in (?,?,?)",
    'SELECT "posts".* FROM "posts" WHERE "posts"."author_id" IN ($1, $2, $3)',
    "SELECT `users`.* FROM `users` WHERE `users`.`id` = 42 LIMIT 1 /*application:Shop*/",
    "INSERT INTO t (a, b) VALUES ('x', 1), ('y', 2)",
    "UPDATE t SET a = 5, b = 'it''s' WHERE c BETWEEN 1 AND 9;",
    "DELETE FROM t WHERE a LIKE '%x%' -- why",
    "SELECT * FROM `t` WHERE `n` = \"it\" AND `m` = 'x'",
    "INSERT INTO t (a) VALUES (%(a__0)s), (%(a__1)s)",
    "SELECT a FROM t WHERE b = $q$x$q$ AND c IN ('x')",
]


def test_statements_read_as_the_agents_but_for_quotes_and_spaces() -> None:
    for ours, agents in both([span("sql", text, **dict.fromkeys(STATEMENTS, text)) for text in SAME]):
        assert bare(ours["resource"]) == bare(agents["resource"])
        for key in STATEMENTS:
            assert bare(ours["meta"][key]) == bare(agents["meta"][key])


def test_where_they_differ_is_known() -> None:
    for (ours, agents), expected in zip(
        both([span("sql", text) for text in DIFFERENT]), DIFFERENT.values(), strict=True
    ):
        assert agents["resource"] == expected
        assert bare(ours["resource"]) != bare(expected)


SECRETS = "JANE", "4711"
LEFT_IN = (
    "SELECT a FROM b WHERE c = '{0}' AND d = {1}", "SELECT a FROM b WHERE c IN ('{0}', '{0}') /* {0} */ -- {1}",
    "INSERT INTO t VALUES (E'{0}\\'{0}', N'{0}', X'{1}', -{1}, {1}.5e3)", "SELECT $$ {0} $$, $a${1}$a$, '{0}",
)  # fmt: skip


@pytest.mark.parametrize("span_type", ["sql", "cassandra"])
def test_no_literal_is_left_in_ours(span_type: str) -> None:
    texts = [text.format(*SECRETS) for text in LEFT_IN]
    for ours, agents in both([span(span_type, text, **dict.fromkeys(STATEMENTS, text)) for text in texts]):
        assert ours["meta"].keys() == agents["meta"].keys()
        for value in (ours["resource"], *ours["meta"].values()):
            assert not any(secret in value for secret in SECRETS)


def test_every_form_of_a_statement_is_obfuscated_where_the_agent_does() -> None:
    texts = [text for text, _ in FORMS if text]
    for ours, agents in both([span("sql", text, **{"sql.query": text, "other": text}) for text in texts]):
        assert ours["resource"] == ours["meta"]["sql.query"]
        assert ours["meta"]["other"] == agents["meta"]["other"]


COMMANDS = [
    "SET a b", "GET a\nGET b", "GET a\nGET b\nGET c", "GET a\nGET b\nGET c\nGET d", "GET a\nDE...\nGET b", "CONFIG SET a b",
    "client list", "CLIENT", "GET...", "GET a\nDE...", "CONFIG SE...", "GET a\n\n\n SET  b  c \n",
]  # fmt: skip


@pytest.mark.parametrize("span_type", ["redis", "valkey"])
def test_commands_as_resources(span_type: str) -> None:
    for ours, agents in both([span(span_type, text) for text in COMMANDS]):
        assert ours["resource"] == agents["resource"]


def test_of_a_raw_command_less_is_left_than_the_agent_leaves() -> None:
    """It keeps keys, of commands that it knows."""
    [(ours, agents)] = both([span("redis", **{"redis.raw_command": "SET user:jane 1"})])
    assert (ours["meta"]["redis.raw_command"], agents["meta"]["redis.raw_command"]) == ("SET ?", "SET user:jane ?")


DIGITS = [
    f"{prefix:0<{length}}" for length in (11, 12, 14, 16, 17)
    for prefix in (*map(str, range(1, 100)), *map(str, range(300, 310)), *map(str, range(2215, 2225)), "2719", "2720", "2721")
]  # fmt: skip
TAGS: list[Json] = [
    span("memcached", **{"memcached.command": "set a 0 0 1\r\nx"}),
    *(span("mongodb", **{"mongodb.query": text}) for text in ('{"a": [1, {"b": "c"}], "d": null}', '{"a" : {}, "b":[ ]}', '"x"')),
    span("elasticsearch", **{"elasticsearch.body": '{"é": "x"}', "opensearch.body": '{"a": [true]}'}),
    span("opensearch", **{"elasticsearch.body": '{"a": 1.5}', "opensearch.body": "[]"}),
    *(span(kind, **{"http.url": url}) for kind in ("web", "http", "custom") for url in (
        "http://u:p@h/x?y=1#z", "http://h/a@b", "https://a%40b@c/", "/x?u=a@b", "//u@h/", "http://h/%zz@", "mailto:a@b",
    )),
    span("custom", **dict.fromkeys(("a", "_a", "account_id", "sql.query", "error.stack", "version"), "4111111111111111")),
    span("custom", a="4111 1111-1111 1111", b=" 411111111111", c="x411111111111", d="4111x11111111"),
    span("custom", **{f"d{number}": digits for number, digits in enumerate(DIGITS)}),
]  # fmt: skip


def test_other_tags_are_the_agents() -> None:
    for ours, agents in both(TAGS):
        assert ours["meta"] == agents["meta"]
