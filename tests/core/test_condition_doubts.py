"""What a condition's comparisons of two types are told, and that each such sentence is true."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from tests.core.ottl_cases import questions, views
from tss.core.conditions.doubts import doubts
from tss.core.conditions.formula import FALSE, TRUE
from tss.core.conditions.language import Context, parse


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("duration >= 0", 'duration is a duration, and 0 is a number; write a duration as Duration("5s")'),
        ("root.duration > 5", "root.duration is a duration, and 5 is a number"),
        ("end_time - start_time > 5", "(end_time - start_time) is a duration, and 5 is a number"),
        ("start_time > 5", "for a number write start_time_unix_nano"),
        ('trace_id == "00000000000000000000000000000001"', "for a text write trace_id.string"),
        ('parent_span_id == ""', "for spans without a parent write IsRootSpan()"),
        ('kind.string == "SERVER"', 'kind.string is one of "Unspecified", "Internal", "Server"'),
        ('trace.spans == "5"', "write the number without quotes"),
        ('trace.duration_ms > "2s"', "write a number of milliseconds, such as 2000"),
        ('trace.duration_ms > Duration("2s")', "write a number of milliseconds, such as 2000"),
        ('kind == "server"', "write one of its names without quotes, such as SPAN_KIND_SERVER"),
        ('status.code == "STATUS_CODE_ERROR"', "such as STATUS_CODE_ERROR"),
        ("name == 5", "`name == 5` never holds: name is a text, and 5 is a number; write the text in quotes"),
        ('"span.a" == kind', '"span.a" is a text, and kind is a number'),
        ("root.status == 2", "write root.status.code == STATUS_CODE_ERROR"),
        ('IsMatch("name", "a")', '`IsMatch("name", "a")` reads nothing of a span: write a path without quotes'),
        ("name != 5", "`name != 5` always holds"),
        ('not (name == "a" or trace.errors == "1")', "trace.errors is a number"),
        ('Duration("5x") < duration', '`Duration("5x")` always fails'),
        ('Milliseconds(Duration("5x")) > attributes["a"]', '`Milliseconds(Duration("5x"))` always fails'),
    ],
)
def test_a_comparison_of_two_types_is_told_with_what_to_write(text: str, told: str) -> None:
    [sentence] = doubts(text)
    assert told in sentence


@pytest.mark.parametrize(
    "text",
    [
        'duration > Duration("5s")',
        'root.kind.string == "Server"',
        'attributes["a"] == 5',
        "name == nil",
        "trace_id == TraceID(0x00000000000000000000000000000001)",
        "trace.duration_ms > 2.5",
        'start_time + Duration("5s") < end_time',
        'IsMatch(name, "a") and IsRootSpan()',
        'cache["a"] == 1',
        "spanevent.time_unix_nano > 5",
    ],
)
def test_others_are_not(text: str) -> None:
    assert doubts(text) == []


PATHS = (
    "name", "kind", "kind.string", "kind.deprecated_string", "status.code", "status.message", "flags", "trace_id", "trace_id.string",
    "span_id", "parent_span_id", "parent_span_id.string", "start_time", "end_time_unix_nano", "end_time - start_time", "trace_state",
    "dropped_events_count", "resource.schema_url", "scope.version", 'attributes["k"]', "Len(name)", "String(kind)", "status",
)  # fmt: skip
LITERALS = (
    '"Server"', '"SPAN_KIND_SERVER"', '"a"', '""', '"0cc175b9c0f1b6a831c399e269772661"', '"0000000000000001"', "0", "2", "1.5", "nil",
    "true", "0x0000000000000001", '["a"]', 'Duration("1ms")', "TraceID(0x0cc175b9c0f1b6a831c399e269772661)", "Unix(0)",
    "SpanID(0x0000000000000000)", "STATUS_CODE_ERROR", "end_time - Unix(0)",
)  # fmt: skip


def test_what_is_said_to_hold_never_or_always_does_so() -> None:
    seen = [
        view
        for _, context, trace in questions(Random(1), 60)
        for view in views(trace, context)
        if context is Context.SPAN
    ]
    told = 0
    for path, operator, literal in product(PATHS, ("==", "!=", "<", ">="), LITERALS):
        for text in (f"{path} {operator} {literal}", f"{literal} {operator} {path}"):
            for sentence in doubts(text):
                answer = parse(text).evaluator()
                wrong = FALSE if "` always holds" in sentence else TRUE
                assert not [view for view in seen if answer(view) == wrong], sentence
                told += 1
    assert told > 500
