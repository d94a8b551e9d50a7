"""Values that follow from other keys, or from the machine."""

import socket
from pathlib import Path

import attrs

from tss.settings.memory import buffer_bytes, memory_limit_bytes
from tss.settings.model import Settings
from tss.settings.sections.app import App
from tss.settings.sections.exporters import ParquetExporter

_PARQUET_BYTES = 64 * 1024 * 1024  # of OTLP, about 10 MB as Parquet: a good file size for readers
_AHEAD_SECS = 5  # longer than some polls of a busy partition, and far shorter than app.rootQuietSecs


def derive(settings: Settings, root: Path = Path("/")) -> Settings:
    """The settings with the derived values filled in. /proc and /sys are read below `root`."""
    app = attrs.evolve(
        settings.app,
        instance_id=settings.app.instance_id or socket.gethostname(),
        max_buffer_bytes=settings.app.max_buffer_bytes or buffer_bytes(memory_limit_bytes(root)),
    )
    rekey = settings.kafka.rekey
    if rekey.enabled:
        ahead_secs = rekey.max_ahead_secs or min(_AHEAD_SECS, settings.shortest_wait_secs / 2)
        rekey = attrs.evolve(rekey, topic=settings.kafka.rekey_topic, max_ahead_secs=ahead_secs)
    kafka = attrs.evolve(settings.kafka, security_protocol=settings.kafka.chosen_security_protocol, rekey=rekey)
    datadog = attrs.evolve(settings.datadog, via=settings.datadog.chosen_via, site=settings.datadog.chosen_site)
    exporters = tuple(_parquet(each, app) if isinstance(each, ParquetExporter) else each for each in settings.exporters)
    return attrs.evolve(settings, app=app, kafka=kafka, datadog=datadog, exporters=exporters)


def _parquet(exporter: ParquetExporter, app: App) -> ParquetExporter:
    # Reading pauses when closed traces take an eighth of the buffer. Two batches are held: one being collected, one being written.
    limit = min(_PARQUET_BYTES, app.max_buffer_bytes // 32)
    return attrs.evolve(exporter, batch_bytes=exporter.batch_bytes or limit)
