"""The fields of a log entry about partitions, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SHOWN_PARTITIONS = 100  # keeps a log line below 16 KiB, at which container runtimes cut it


def partition_fields(ids: Iterable[int], **each: Mapping[int, object]) -> dict[str, object]:
    """The fields of a log line about these partitions.

    They are the lowest ids, under each name of ``each`` its values for those ids, and the number of further partitions.
    """
    found = sorted(ids)
    first = found[:SHOWN_PARTITIONS]
    fields: dict[str, object] = {"partitions": first}
    fields |= {name: {str(id): said[id] for id in first} for name, said in each.items()}
    return fields | ({"more_partitions": len(found) - len(first)} if len(found) > len(first) else {})
