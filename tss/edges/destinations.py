"""Opens the destination that an exporter's settings describe."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tss.edges.files.otlp_json import OtlpJsonFile, open_file
from tss.edges.files.parquet import ParquetFolder, open_parquet
from tss.edges.http.datadog_traces import DatadogTraces, open_datadog
from tss.edges.http.otlp_traces import OtlpTraces, open_otlp
from tss.settings import Datadog, DatadogExporter, FileExporter, OtlpExporter, ParquetExporter

Destination = OtlpJsonFile | ParquetFolder | OtlpTraces | DatadogTraces


def open_destination(
    exporter: FileExporter | ParquetExporter | OtlpExporter | DatadogExporter,
    datadog: Datadog,
    *,
    computes_stats: bool = False,
) -> AbstractAsyncContextManager[Destination]:
    """Entering it raises UnusableFile if a file that the settings name cannot be used. Nothing is sent yet.

    ``computes_stats`` is for Datadog: this daemon sends APM statistics of all traffic.
    """
    match exporter:
        case FileExporter():
            return open_file(exporter)
        case ParquetExporter():
            return open_parquet(exporter)
        case OtlpExporter():
            return open_otlp(exporter)
        case DatadogExporter():
            return open_datadog(exporter, datadog, computes_stats=computes_stats)
