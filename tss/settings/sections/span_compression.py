"""`spanCompression`: runs of similar spans become one span."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, truth, whole
from tss.settings.kinds.patterns import SqlPattern, operations, sql_patterns

_COMPRESSION_TOO = "Has an effect only with `enabled`."


@frozen(kw_only=True)
class SpanCompression:
    """Runs of alike spans made into one, in kept traces, after the decision: docs/operations.md says which are alike."""

    enabled: bool = key(False, truth, "Compress runs of alike spans in kept traces.")
    min_compression_count: int = key(3, whole(2), f"Alike spans that make a run, at least. {_COMPRESSION_TOO}")
    compression_window_secs: float = key(
        60, positive_secs, f"The spans of a run start within this time of its first. {_COMPRESSION_TOO}"
    )
    max_span_duration_secs: float = key(60, positive_secs, f"Longer spans stay as they are. {_COMPRESSION_TOO}")
    compress_operations: tuple[str, ...] = key(
        (),
        operations,
        "Only these operations; empty: all. The operation of a database call is `db.operation.name` or "
        "`db.operation`, else the statement's first word in capitals; of any other span its name. Case does not count. "
        f"A text is a glob of the whole (`*`, `?`); after `re:` a regular expression (RE2) that is found in it. {_COMPRESSION_TOO}",
    )
    exclude_operations: tuple[str, ...] = key(
        (), operations, f"Never these, whatever `compressOperations` says; written alike. {_COMPRESSION_TOO}"
    )
    sql_patterns: tuple[SqlPattern, ...] = key(
        (),
        sql_patterns,
        "Only SQL statements that match one of these are compressed, the first match counts; empty: all. Looked at is the "
        "statement as it was normalised: `?` for each value, lists as `(?)`, no comments, single spaces. Case does not "
        "count. A text is found anywhere in it, or, with `*` in it, is a glob of the whole (`?` is itself). A mapping has "
        "`pattern`; `isRegex: true` makes that a regular expression (RE2) that is found anywhere; with `groupName` all "
        "statements that match are alike and go by this name. "
        f"Other spans, and stores without SQL such as Redis, are not concerned. {_COMPRESSION_TOO}",
    )
