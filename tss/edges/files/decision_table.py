"""Encodes rows of decisions as a Parquet file, column by column from the numbers as they are."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tss.core.decision import Decision
from tss.core.decision_rows import Columns, Row
from tss.core.names import Names

ZSTD_LEVEL = 3
ID_CHARS = 32

_NS, _MS = pa.timestamp("ns", tz="UTC"), pa.timestamp("ms", tz="UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())

# The columns, in order.
COLUMNS: Mapping[str, Any] = {
    "trace_id": pa.string(),
    "closed": _MS,
    "decided": _MS,
    "start": _NS,
    "duration_ns": pa.int64(),
    "spans": pa.int64(),
    "errors": pa.int64(),
    "bytes": pa.int64(),
    "service": _TEXT,
    "root": _TEXT,
    "verdict": _TEXT,
    "policy": _TEXT,
    "reason": _TEXT,
    "rate": pa.float64(),
    "ruleset": _TEXT,
}


def to_parquet(rows: Sequence[Row], *, names: Names) -> memoryview:
    """The file's bytes."""
    found = Columns([*rows])
    known: dict[Decision, int] = {}
    numbers = array("i", [known.setdefault(row.decision, len(known)) for row in rows])
    decisions = [*known]
    columns = {
        "trace_id": _ids(rows),
        "closed": _numbers(_MS, found.closed_ms),
        "decided": _numbers(_MS, found.decided_ms),
        "start": _numbers(_NS, found.start_ns),
        "duration_ns": _numbers(pa.int64(), found.duration_ns),
        "spans": _numbers(pa.int64(), found.spans),
        "errors": _numbers(pa.int64(), found.errors),
        "bytes": _numbers(pa.int64(), found.bytes),
        "service": _texts(found.services, names.services.texts),
        "root": _texts(found.roots, names.roots.texts),
        "verdict": _texts(numbers, [each.verdict.value for each in decisions]),
        "policy": _texts(numbers, [each.policy for each in decisions]),
        "reason": _texts(numbers, [each.reason.value for each in decisions]),
        "ruleset": _texts(numbers, [each.ruleset for each in decisions]),
        "rate": pa.array([each.rate for each in decisions], pa.float64()).take(_numbers(pa.int32(), numbers)),
    }
    schema = pa.schema(COLUMNS)
    out = pa.BufferOutputStream()
    with pq.ParquetWriter(out, schema, compression="zstd", compression_level=ZSTD_LEVEL) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([columns[name] for name in COLUMNS], schema=schema))
    return memoryview(out.getvalue())


def _numbers(kind: Any, values: array[int]) -> Any:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _ids(rows: Sequence[Row]) -> Any:
    text = b"".join([row.trace_id for row in rows]).hex().encode("ascii")
    ends = array("i", range(0, ID_CHARS * len(rows) + 1, ID_CHARS))
    return pa.Array.from_buffers(pa.string(), len(rows), [None, pa.py_buffer(ends), pa.py_buffer(text)])


def _texts(numbers: array[int], texts: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(_numbers(pa.int32(), numbers), pa.array([*texts], pa.string()))
