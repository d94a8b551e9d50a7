"""Opens the destination that an exporter's settings describe."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tss.core.names import Names
from tss.edges.files.decision_rows import DecisionLines, open_lines, open_tables
from tss.edges.files.otlp_json import OtlpJsonFile, open_file
from tss.edges.files.parquet import ParquetFolder, open_parquet
from tss.edges.http.datadog_traces import DatadogTraces, open_datadog
from tss.edges.http.otlp_traces import OtlpTraces, open_otlp
from tss.edges.kafka_output.decision_rows import DecisionRecords, open_records
from tss.settings import Datadog, DatadogExporter, DecisionsExporter, FileExporter, Kafka, OtlpExporter, ParquetExporter

Destination = OtlpJsonFile | ParquetFolder | OtlpTraces | DatadogTraces


def open_rows(
    exporter: DecisionsExporter, kafka: Kafka, client_id: str, names: Names
) -> AbstractAsyncContextManager[DecisionLines | ParquetFolder | DecisionRecords]:
    """Where rows of decisions go. Entering it raises UnusableFile, or WrongSetting."""
    match exporter.via:
        case "kafka":
            return open_records(exporter, kafka, client_id, names)
        case "parquet":
            return open_tables(exporter, names)
        case _:
            return open_lines(exporter, names)


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
