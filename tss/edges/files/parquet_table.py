"""Encodes traces as a Parquet file. Only this module and `decision_table` need pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tss.core.formats.parquet_rows import ROW_BYTES, Row, rows
from tss.core.repeating import check
from tss.core.trace import Trace

ROW_GROUP_ROWS = 16_384  # some 100 MB as Python objects; readers work best with a few tens of thousands
# Law 5: each row repeats its resource. So a row may be as long as a record, though most have 2 kB. pyarrow takes three times this.
ROW_GROUP_BYTES = 32 * 1024 * 1024
ZSTD_LEVEL = 3

# pyarrow's own pool would keep freed memory; the C library's heap is trimmed, and returns it to the system.
pa.set_memory_pool(pa.system_memory_pool())

_TIME = pa.timestamp("ns", tz="UTC")
_TEXTS = pa.map_(pa.string(), pa.string())

# The columns, in order.
COLUMNS: Mapping[str, Any] = {
    "trace_id": pa.string(),
    "span_id": pa.string(),
    "parent_span_id": pa.string(),
    "service": pa.string(),
    "name": pa.string(),
    "kind": pa.string(),
    "start": _TIME,
    "duration_ns": pa.int64(),
    "status": pa.string(),
    "status_message": pa.string(),
    "attributes": _TEXTS,
    "resource_attributes": _TEXTS,
    "events": pa.list_(pa.struct({"time": _TIME, "name": pa.string(), "attributes": _TEXTS})),
    "links": pa.list_(
        pa.struct({"trace_id": pa.string(), "span_id": pa.string(), "trace_state": pa.string(), "attributes": _TEXTS})
    ),
    "scope_name": pa.string(),
    "scope_version": pa.string(),
    "scope_attributes": _TEXTS,
    "trace_state": pa.string(),
    "flags": pa.uint32(),
    "decision_policy": pa.string(),
    "decision_reason": pa.string(),
    "decision_rate": pa.float64(),
    "late": pa.bool_(),
}
RAW = {"otlp_span": pa.binary(), "otlp_scope": pa.binary(), "otlp_resource": pa.binary()}


def to_parquet(traces: Iterable[Trace], *, raw: bool) -> memoryview:
    """The file's bytes. Raises TooLarge, and the errors of `rows`."""
    schema = pa.schema({**COLUMNS, **(RAW if raw else {})})
    out = pa.BufferOutputStream()
    # Parquet's dictionaries store each repeated text once for each group of rows.
    with pq.ParquetWriter(out, schema, compression="zstd", compression_level=ZSTD_LEVEL) as writer:
        for group in _groups(traces):
            writer.write_batch(_batch(group, schema))
    return memoryview(out.getvalue())


def _groups(traces: Iterable[Trace]) -> Iterator[list[Row]]:
    """The rows in row groups."""
    gathered: list[Row] = []
    size = 0
    for trace in traces:
        written = 0
        for row in rows(trace):
            written += row[ROW_BYTES]
            check(written, trace.payload_bytes)
            if gathered and (len(gathered) == ROW_GROUP_ROWS or size + row[ROW_BYTES] > ROW_GROUP_BYTES):
                yield gathered
                gathered, size = [], 0
            gathered.append(row)
            size += row[ROW_BYTES]
    if gathered:
        yield gathered


def _batch(gathered: Sequence[Row], schema: Any) -> Any:
    arrays = [pa.array([row[field.name] for row in gathered], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
