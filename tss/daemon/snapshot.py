"""The state of the whole daemon in one log entry, for SIGUSR1."""

from __future__ import annotations

from collections.abc import Mapping

from tss.core.health import Health
from tss.core.logfields import SHOWN_PARTITIONS
from tss.core.partition import Partition
from tss.edges.web.pages import status, unready
from tss.state.assignments import Assignments


def entry(health: Health) -> Mapping[str, object]:
    """The fields of the entry."""
    return {
        "status": status(health),
        "unready_because": unready(health) or None,
        "components": {
            name: f"{each.state.value}: {each.detail}" if each.detail else each.state.value
            for name, each in sorted(health.components.items())
        },
        **health.read_numbers(),
        **health.read_details(),
    }


def partitions(assignments: Assignments) -> Mapping[str, str]:
    """Each partition in a few words; those with the most records to read and commit come first."""
    busiest = sorted(assignments, key=lambda each: (-(each.lag + each.ledger.uncommitted), each.id))
    return {str(each.id): _words(each) for each in busiest[:SHOWN_PARTITIONS]}


def _words(partition: Partition) -> str:
    committed = "nothing" if partition.committed is None else partition.committed
    words = [
        f"read to {partition.position}",
        f"lag {partition.lag}",
        f"low water {partition.ledger.low_water}",
        f"committed {committed}",
        f"{partition.in_flight} closed and not settled",
    ]
    return ", ".join([*words, "revoked"] if partition.revoked else words)
