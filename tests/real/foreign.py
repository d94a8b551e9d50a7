"""A producer that can write what Python's clients cannot: header names that are not UTF-8, through librdkafka's C API."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import confluent_kafka

# rd_kafka_vtype_t, of rdkafka.h
_END, _TOPIC, _PARTITION, _VALUE, _KEY, _TIMESTAMP, _HEADER = 0, 1, 3, 4, 5, 8, 9
_PRODUCER = 0
SIZE = ctypes.c_size_t


@cache
def _library() -> ctypes.CDLL:
    """The one that confluent-kafka brings with it."""
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    [path] = beside.glob("librdkafka*.so*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    return library


def produce_foreign(
    bootstrap: str,
    topic: str,
    value: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    key: bytes = b"",
    timestamp_ms: int = 0,
) -> None:
    """One record to partition 0; returns once it is in the topic."""
    library, said = _library(), ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    for name, setting in ((b"bootstrap.servers", bootstrap.encode()), (b"log_level", b"0"), (b"acks", b"all")):
        assert library.rd_kafka_conf_set(conf, name, setting, said, SIZE(512)) == 0, said.value
    client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, said, SIZE(512)))
    assert client.value, said.value
    try:
        arguments: list[object] = [_TOPIC, topic.encode(), _PARTITION, ctypes.c_int32(0)]
        arguments += [_VALUE, value, SIZE(len(value)), _TIMESTAMP, ctypes.c_int64(timestamp_ms)]
        if key:
            arguments += [_KEY, key, SIZE(len(key))]
        for name, content in headers:
            arguments += [_HEADER, name, content, ctypes.c_ssize_t(len(content))]
        assert library.rd_kafka_producev(client, *arguments, _END) == 0
        assert library.rd_kafka_flush(client, 30_000) == 0, "the record did not arrive"
    finally:
        library.rd_kafka_destroy(client)
