"""The page about the condition language, docs/conditions.md, from the tables that the language is made of."""

from __future__ import annotations

from collections.abc import Iterable

from tss.core.conditions.formula import Place
from tss.core.conditions.functions import LEFT_OUT, TABLE
from tss.core.conditions.lexer import MAX_LENGTH
from tss.core.conditions.parser import MAX_DEPTH, MAX_OPERATORS
from tss.core.conditions.paths import SYMBOLS, TARGETS, TRACE

_HEAD = """\
# Conditions

A condition is a text that is asked of each span: `attributes["http.route"] == "/pay" and status.code == STATUS_CODE_ERROR`. The
language is OTTL, the OpenTelemetry Collector's, as of pkg/ottl v1.4.1. [Policies](policies.md) have conditions in `when`,
[force rules](force-rules.md) in `condition`, and a [Collector's section](otel-tail-sampling.md) in `ottl_condition`.

A wrong condition is refused at the start. The message has the place, what was found, what is allowed, and often what is probably
meant:

```
sampling.policies[0].when (line 5): found `=` at column 17; allowed: a comparison (== != < <= > >=) (did you mean `==`?)
```

## Form

- `and`, `or`, `not` and brackets join comparisons. They are written in small letters. `and` and `or` stop at the first member that
  settles them.
- A comparison has one of `==`, `!=`, `<`, `<=`, `>`, `>=`. A function that answers true or false needs none: `IsMatch(name, "^GET ")`.
- Literals: `"text"`, `5`, `1.5`, `true`, `nil`, bytes `0x0a1b`, lists `[1, 2]`, maps `{{"a": 1}}`, and the enums {symbols}.
- A backslash in a text is written twice: `IsMatch(name, "\\\\d+")`.
- `+`, `-`, `*` and `/` compute with numbers, times and durations. `5 / 2` is 2, and a division by 0 fails.
- Keys reach into maps and lists: `attributes["user"]["id"]`, `attributes["tags"][0]`.

A condition has at most {length} characters, {depth} levels of brackets and {operators} arithmetic operators.

## How values compare

- An int and a float compare as numbers: `1 == 1.0`. Values of other different types are never equal and have no order: `5 == "5"` is
  false, `5 != "5"` is true, `5 < "6"` is false. So `duration > 5` and `kind == "server"` never hold: write `duration > Duration("5s")`
  and `kind == SPAN_KIND_SERVER`. In `sampling.policies` `tss check` warns about such comparisons.
- A missing attribute is `nil`: `attributes["x"] == nil`. It differs from every other value, so `attributes["x"] != "a"` is true of spans
  without `x`.
- An evaluation can fail: an index outside of a list, a division by 0, a text where a function wants a number. A condition that fails
  does not hold, and neither does its `not`.

## Paths

A path without a context belongs to the span, in conditions on events to the event. `instrumentation_scope` is the same as `scope`.

| context | paths |
|---|---|
{paths}
Conditions in `sampling.policies` and in force rules have three more:

| path | value |
|---|---|
| `duration` | the time from the start to the end of a span, as a duration: `duration > Duration("2s")` |
| `root.` and a path of a span, `root.resource.`, `root.scope.` | of the root span: the span without a parent that started first |
| {trace} | numbers of the whole trace |

A comparison reads one span, the root or the trace, not two of them.

## Functions

The names of parameters are optional: `Substring(name, start = 0, length = 3)`. A parameter with `?` can be left out. An
argument that is a literal of a wrong type is refused. Regular expressions are RE2's; they match anywhere unless anchored.

| function | value |
|---|---|
{functions}
"""

_TAIL = """\
These functions of pkg/ottl are refused:

| functions | reason |
|---|---|
{refused}
## What differs from the Collector

Random conditions are compared with pkg/ottl's own answers in the tests. These differences are known:

| difference | the Collector | here |
|---|---|---|
| text that is not UTF-8 | It is compared byte by byte | Each wrong byte is U+FFFD |
| an attribute that is there without a value | A key below it fails: `attributes["a"]["b"]` | It is nil, like a missing attribute |
| the paths `otelcol.` | They are nil in a sampling policy | They are refused |
| two results of `Split` compared | The Collector crashes | The evaluation fails |
| one parameter given twice | The Collector crashes, or takes the last | It is refused |
| bounds | No bounds on the length and the depth of a condition | See above |
| `ParseJSON` | Takes some texts that are not JSON: `[01]`, `[1.]` | They fail |
| `ParseJSON` of values nested thousands deep | Up to 10,000 levels | It fails earlier |
| `Year` and the like of a `Unix(...)` beyond some 292 billion years | The year wraps around | It does not |
| `ConvertCase` with `"snake"` or `"camel"` | Supported | Refused |
| regular expressions | `\\p{Letter}` and other long names of Unicode classes since Go 1.25 | RE2 has the short names: `\\pL` |
| an expression with two groups of one name | The last one counts | It is refused |
| `Hour` and the like of `Unix(...)` | In the Collector's time zone | In UTC |
| times after the year 2262 | `end_time_unix_nano - start_time_unix_nano` wraps around | It ends at the largest duration |

## Cost

A comparison of one field with a constant is answered while the record is read, without Python. Any other test of one field is answered
once for each distinct value, and remembered. A comparison that needs several fields, or all attributes, runs in Python for each span
where it is reached: put a cheap comparison before it, with `and`.
"""

_CONTEXTS = {
    Place.SPAN: "`span.`",
    Place.EVENT: "`spanevent.` (conditions on events)",
    Place.RESOURCE: "`resource.`",
    Place.SCOPE: "`scope.`",
}


def page() -> str:
    """The page in Markdown."""
    head = _HEAD.format(
        symbols=", ".join(f"`{name}`" for name in SYMBOLS),
        length=f"{MAX_LENGTH:,}",
        depth=MAX_DEPTH,
        operators=MAX_OPERATORS,
        paths=_rows((context, _listed(TARGETS[place])) for place, context in _CONTEXTS.items()),
        trace=", ".join(f"`trace.{name}`" for name in TRACE),
        functions=_rows((f"`{function.usage}`", function.does) for function in TABLE),
    )
    by_reason: dict[str, list[str]] = {}
    for name, reason in LEFT_OUT.items():
        by_reason.setdefault(reason, []).append(name)
    refused = _rows((_listed(sorted(names)), reason) for reason, names in by_reason.items())
    return f"{head}{_TAIL.replace('{refused}', refused)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"| {one} | {other} |\n" for one, other in rows)
