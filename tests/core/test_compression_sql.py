"""Statements as libraries write them, and what tells them apart once their values are gone."""

from collections.abc import Callable
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tss.core.compression import sql
from tss.core.compression.sql import MAX_LENGTH, Statements, normalised

try:
    from tss.core.compression.sqltext import compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

DJANGO = (
    'SELECT "shop_order"."id", "shop_order"."total" FROM "shop_order" INNER JOIN "shop_line_2" ON ("shop_order"."id" = '
    '"shop_line_2"."order_id") WHERE ("shop_order"."status" IN ({}) AND UPPER("shop_order"."note"::text) LIKE UPPER({})) '
    "ORDER BY 1 ASC LIMIT 21"
)
FORMS = [
    # Django, PostgreSQL: psycopg puts the values in, or leaves them out
    (DJANGO.format("'new', 'paid'", "'%a''b%'"), DJANGO.format("?", "?").replace("21", "?").replace("1 ASC", "? ASC")),
    (DJANGO.format("%s, %s", "%s"), DJANGO.format("?", "?").replace("21", "?").replace("1 ASC", "? ASC")),
    ("SELECT 1 FROM t WHERE a LIKE 'b%' ESCAPE '\\' AND c = 'd'", "SELECT ? FROM t WHERE a LIKE ? ESCAPE ? AND c = ?"),
    ("INSERT INTO t (a, b) VALUES (%(a__0)s, %(b__0)s), (%(a__1)s, %(b__1)s)", "INSERT INTO t (a, b) VALUES (?)"),
    # Rails
    (
        "SELECT `users`.* FROM `users` WHERE `users`.`id` = 42 LIMIT 1 /*application:Shop,action:index*/",
        "SELECT `users`.* FROM `users` WHERE `users`.`id` = ? LIMIT ?",
    ),
    (
        'SELECT "posts".* FROM "posts" WHERE "posts"."author_id" IN ($1, $2, $3)',
        'SELECT "posts".* FROM "posts" WHERE "posts"."author_id" IN (?)',
    ),
    ("SELECT * FROM `t` WHERE `n` = \"it\\\"s\" AND `m` = 'x'", "SELECT * FROM `t` WHERE `n` = ? AND `m` = ?"),
    # JDBC, Hibernate
    (
        "select o1_0.id,o1_0.sku from order_items o1_0 where o1_0.order_id=? and o1_0.sku in (?,?,?)",
        "select o1_0.id,o1_0.sku from order_items o1_0 where o1_0.order_id=? and o1_0.sku in (?)",
    ),
    ("/* criteria */ select t.a1_2 from table_2 t limit ?;", "select t.a1_2 from table_2 t limit ?"),
    # SQLAlchemy
    (
        "SELECT a.id AS a_id \nFROM a \nWHERE a.id = :id_1 AND a.n IN (:n_1_1, :n_1_2)",
        "SELECT a.id AS a_id FROM a WHERE a.id = ? AND a.n IN (?)",
    ),
    ("INSERT INTO a (x, y) VALUES ($1::INTEGER, $2::VARCHAR(9)) RETURNING a.id", "INSERT INTO a (x, y) VALUES (?) RETURNING a.id"),
    ("a IN ($1::double precision, $2::double precision, NULL)", "a IN (?)"),
    # SQL Server, Entity Framework
    ("SELECT [o].[Id] FROM [Order Details 2] AS [o] WHERE [o].[Id] = @__id_0", "SELECT [o].[Id] FROM [Order Details 2] AS [o] WHERE [o].[Id] = ?"),
    ("exec sp_executesql N'select 1', N'@p int', @p=1", "exec sp_executesql ?, ?, ?=?"),
    # sqlcommenter, and what a comment must not hide
    ("SELECT 1 /*traceparent='00-4bf9-01',db_driver='x'*/", "SELECT ?"),
    ("SELECT a -- why 'not'\nFROM t", "SELECT a FROM t"),
    ("SELECT 'a -- b /* c'", "SELECT ?"),
    # numbers
    ("a = -5 AND b BETWEEN -3 AND -.5e-3 AND c IN (-1, +2)", "a = ? AND b BETWEEN ? AND ? AND c IN (?, +?)"),
    ("a-5 = a - 5 AND x = 0x1F AND y = 1.5E+10 AND z = 1_000", "a-? = a - ? AND x = ? AND y = ? AND z = ?"),
    ("SELECT t1.c2, 2fa.x FROM t1, 2fa WHERE utf8mb4 = x'1f'", "SELECT t1.c2, 2fa.x FROM t1, 2fa WHERE utf8mb4 = ?"),
    # PostgreSQL
    ("a->>'k' = 'v' AND b @> '{\"c\": 1}' AND d #>> '{e,1}' = $1", "a->>? = ? AND b @> ? AND d #>> ? = ?"),
    ("'2020-01-01'::date - interval '1 day', arr[1:2], ARRAY[1, 2]", "?::date - interval ?, arr[?:?], ARRAY[?]"),
    ("f = $$it's$$ AND g = $q$a $$ b$q$ AND h = E'a\\'b'", "f = ? AND g = ? AND h = ?"),
    # MySQL
    ("c = _utf8mb4'x' AND @@version = 1 AND `a``b` = 'say \"x\"'", "c = ? AND @@version = ? AND `a``b` = ?"),
    # not SQL at all
    ("GET user:123:name", "GET user:?:name"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_values_go_and_the_statement_stays(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_double_quotes_hold_a_name_unless_the_system_is_known_for_values() -> None:
    text = 'SELECT "a 1" FROM t WHERE b = "c"'
    assert normalised(text) == text
    assert normalised(text, "postgresql") == text
    assert normalised(text, "mysql") == "SELECT ? FROM t WHERE b = ?"


@pytest.mark.parametrize("rows", [1, 2, 50, 5000])
def test_a_list_is_as_long_as_another(rows: int) -> None:
    insert = "INSERT INTO t (a) VALUES " + ", ".join(f"({row}, 'x')" for row in range(rows))
    select = "SELECT a FROM t WHERE b IN (" + ", ".join(map(str, range(rows))) + ")"
    assert normalised(insert).removesuffix("...") == "INSERT INTO t (a) VALUES (?)"
    assert normalised(select).removesuffix("...") == "SELECT a FROM t WHERE b IN (?)"


@pytest.mark.parametrize(
    "text", ["x = 'abc", "x = 'abc\\", "x = $$abc", "x = $a$abc", "x = /* abc", "x = 1 -- abc", 'x = "a']
)
def test_what_is_cut_off_is_read_to_its_end(text: str) -> None:
    assert "abc" not in normalised(text)


def test_other_statements_stay_others() -> None:
    assert normalised("SELECT a FROM table_1") != normalised("SELECT a FROM table_2")
    assert normalised('SELECT "a1"') != normalised('SELECT "a2"')


literals = st.one_of(
    st.integers(-(2**63), 2**63).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\\")).map(
        lambda text: "'" + text.replace("'", "''") + "'"
    ),
    st.text().map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    st.text(st.characters(exclude_characters="$")).map(lambda text: f"$q${text}$q$"),
    st.binary(max_size=20).map(lambda value: f"X'{value.hex()}'"),
    st.sampled_from(("?", "$1", "$99", ":p", ":p_1_2", "@p0", "%s", "%(a)s")),
)


@given(st.lists(literals, min_size=1, max_size=4), literals)
def test_no_value_shows_through(values: list[str], other: str) -> None:
    text = f"SELECT a_1 FROM t2 WHERE b IN ({', '.join(values)}) AND c = {other} AND d > 1 ORDER BY e"
    assert normalised(text[:MAX_LENGTH]) == "SELECT a_1 FROM t2 WHERE b IN (?) AND c = ? AND d > ? ORDER BY e"


@given(st.text(alphabet="ab1'\"`$-/*[](),.?:@%\\ \n;eEx_NULL", max_size=60))
def test_any_text_is_read(text: str) -> None:
    once = normalised(text)
    assert len(once) <= MAX_LENGTH + 3
    assert once == " ".join(once.split())


@given(st.sampled_from([text for text, _ in FORMS]))
def test_a_normalised_statement_stays(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


numbers = st.one_of(st.integers(0, 3), st.integers(0, 10**50)).map(str)
frames = st.sampled_from((
    "SELECT a FROM t WHERE b = {}", "SELECT a FROM t_{} WHERE b = 1", 'SELECT "a {} b"', "a = '{}'", "a = {} LIMIT {}", "a = {}.5", "a = {}x1",
    "a IN ({}, {})", "{}", "a = {};", "a='x {} y' -- {}", "-- {}", "= 0{}", "(" * 3000 + " {}",
))  # fmt: skip


@given(frames, st.lists(st.tuples(numbers, numbers, st.sampled_from(("", "mysql"))), min_size=1, max_size=12))
def test_in_a_loop_a_statement_reads_as_it_does_alone(frame: str, values: list[tuple[str, str, str]]) -> None:
    statements = Statements()
    for one, other, system in values:
        text = frame.format(one, other)
        assert statements.normalised(text, system) == normalised(text, system)


def test_names_that_differ_in_a_number_stay_different_in_a_loop() -> None:
    statements = Statements()
    texts = [f'SELECT "a {number} b" FROM t WHERE c = 1' for number in range(9)]
    assert [statements.normalised(text, "") for text in texts] == [normalised(text) for text in texts]
    assert len({normalised(text) for text in texts}) == 9


# The compiled walk and the expressions ------------------------------------------------------------------------------

PIECES = (
    "a", "n", "E", "x", "_u", "1", "0x1F", "0b1", "'", '"', "`", "$", "$q$", "-", "--", "/*", "*/", "[", "]", "(", ")", ",", " ", ".",
    "?", ":", "::", "@", "%", "%s", "%(a)s", "\\", "\n", ";", "e", "+", "5", "_", "null", "NULL", "true", "default", " and ", "BETWEEN ",
    " then ", " else ", "select ", "limit ", "ESCAPE '\\'", "é", "'é'", "?, ?", "(?)", "(?), (?)", "[]", "\x1c", "\0", "1e5", "1.", " IN (",
)  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.tuples(st.sampled_from([text for text, _ in FORMS]), st.integers(0, 200), st.sampled_from(PIECES)).map(
        lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] :]
    ),
)
by_expressions = sql._normalised.__wrapped__


@pytest.mark.skipif(compiled is None, reason="nothing is compiled")
@settings(max_examples=300, deadline=None)
@given(texts, st.booleans())
@example("a = $$ é $$ AND b = '\\", False)
@example("x$E'a' = $_u'b' AND 2fa'c'", True)
def test_the_compiled_walk_reads_as_the_expressions_do(text: str, double_quoted: bool) -> None:
    found = compiled(text, double_quoted)
    assert found is None or found == by_expressions(text, double_quoted)
    assert found is not None or not text.isascii()


@pytest.mark.skipif(compiled is None, reason="nothing is compiled")
def test_the_compiled_walk_reads_what_is_foreign_in_values_and_leaves_it_elsewhere() -> None:
    assert (
        compiled("SELECT a FROM t WHERE b = 'né' AND c = \"d\" -- é", False)
        == 'SELECT a FROM t WHERE b = ? AND c = "d"'
    )
    assert [compiled(text, False) for text in ("SELECT né", 'SELECT "né"', "1é", "[né]", "\udc80")] == [None] * 5


HOSTILE = {
    "a word before a text": "a{}'", "words and dollars": "a${}'", "open brackets": "[a{}", "open lists": "(?,{}", "dollars": "$a{}",
    "percent": "%(a{}", "underscores": "_{}'", "quotes": "''{}", "backslashes": "'\\{}", "colons": ":a{}", "comments": "/*{}", "minus": " - {}",
    "dollar texts": "$a$ $b{}", "rows": "(?), {}", "casts": "?::a {}", "exponents": "1e{}",
}  # fmt: skip


@pytest.mark.parametrize("read", [by_expressions, compiled], ids=["expressions", "compiled"])
@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
def test_twice_the_text_is_twice_the_work(read: Callable[[str, bool], str] | None, frame: str) -> None:
    """Whatever a producer writes: the bound on a statement's length is no excuse for its square."""
    if read is None:
        pytest.skip("nothing is compiled")
    unit = frame.partition("{}")[0]

    def secs(times: int) -> float:
        text = unit * times + frame.partition("{}")[2]
        rounds = []
        for _ in range(3):
            began = process_time()
            for _ in range(10):
                read(text, False)
            rounds.append(process_time() - began)
        return min(rounds)

    assert secs(4000) < 40 * secs(400)  # ten times the text; its square would be 100
