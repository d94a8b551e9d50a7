"""The fields that a condition may name, by the message that has them.

A plain field is never missing: one that is absent on the wire is "" or 0, as in the Collector's pdata. Only an attribute can
be missing. Ids are bytes; the parent id of a root is 8 zero bytes. Times and durations are int64, counts and flags uint32.
"""

from __future__ import annotations

from tss.core.conditions.formula import Field, Place

ATTRIBUTES = "attributes"

NAMES: dict[Place, frozenset[str]] = {
    Place.SPAN: frozenset((
        "trace_id", "span_id", "parent_span_id", "trace_state", "name", "kind", "status.code", "status.message", "flags",
        "start_time_unix_nano", "end_time_unix_nano", "duration", "dropped_attributes_count", "dropped_events_count",
        "dropped_links_count", ATTRIBUTES,
    )),
    Place.EVENT: frozenset(("name", "time_unix_nano", "dropped_attributes_count", "event_index", ATTRIBUTES)),
    Place.RESOURCE: frozenset(("dropped_attributes_count", "schema_url", ATTRIBUTES)),
    Place.SCOPE: frozenset(("name", "version", "dropped_attributes_count", "schema_url", ATTRIBUTES)),
}  # fmt: skip


def is_known(field: Field) -> bool:
    """Whether the scanner can read a field: a plain one of `NAMES`, or an attribute by its key."""
    return field.name in NAMES[field.place] and (field.name == ATTRIBUTES or not field.key)
