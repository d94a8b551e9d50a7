"""`spanCompression`: runs of similar spans become one span."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, truth, whole
from tss.settings.kinds.patterns import SqlPattern, operations, sql_patterns

_IF_ENABLED = "Has an effect only with `enabled`."


@frozen(kw_only=True)
class SpanCompression:
    """Replaces runs of similar spans in kept traces by one span, after the decision. docs/operations.md says which spans are similar."""

    enabled: bool = key(False, truth, "Compress runs of similar spans in kept traces.")
    min_compression_count: int = key(3, whole(2), f"The fewest similar spans that make a run. {_IF_ENABLED}")
    compression_window_secs: float = key(
        60, positive_secs, f"All spans of a run start within this time after its first span. {_IF_ENABLED}"
    )
    max_span_duration_secs: float = key(
        60, positive_secs, f"Spans that last longer than this are not compressed. {_IF_ENABLED}"
    )
    compress_operations: tuple[str, ...] = key(
        (),
        operations,
        "Compress only these operations; empty: all. The operation of a database call is `db.operation.name` or "
        "`db.operation`, else the first word of the statement in capitals. The operation of any other span is its name. "
        "Case does not count. A text is a glob (`*`, `?`) for the whole operation. After `re:` it is a regular expression (RE2), "
        f"which matches anywhere in it. {_IF_ENABLED}",
    )
    exclude_operations: tuple[str, ...] = key(
        (),
        operations,
        f"Never compress these operations, even if `compressOperations` has them. Same patterns. {_IF_ENABLED}",
    )
    sql_patterns: tuple[SqlPattern, ...] = key(
        (),
        sql_patterns,
        "Compress only SQL statements that match one of these patterns; the first match counts; empty: all. The pattern is "
        "compared with the normalised statement: `?` for each value, `(?)` for lists, no comments, single spaces. Case does not "
        "count. A text matches anywhere in the statement. With `*` in it, it is a glob for the whole statement (`?` is a plain "
        "question mark). A mapping has `pattern`; with `isRegex: true` that is a regular expression (RE2), which matches anywhere. "
        "With `groupName`, all statements that match count as similar and get this name. "
        f"Other spans, also of stores without SQL such as Redis, are not affected. {_IF_ENABLED}",
    )
