"""What the log says of many partitions fits into a line."""

from __future__ import annotations

import json

from tss.core.logfields import SHOWN_PARTITIONS, partition_fields
from tss.core.startposition import StartPosition

LINE_BYTES = 16 * 1024  # where container runtimes cut one


def test_few_partitions_are_told_whole_and_in_order() -> None:
    assert partition_fields([3, 1], offsets={1: 10, 3: 30}) == {"partitions": [1, 3], "offsets": {"1": 10, "3": 30}}
    assert partition_fields(iter(range(SHOWN_PARTITIONS))) == {"partitions": [*range(SHOWN_PARTITIONS)]}


def test_of_many_the_first_are_told_and_the_number_of_the_rest() -> None:
    starts = {id: StartPosition(10**12 + id, 10**12, committed=True).told() for id in range(5_000)}
    fields = partition_fields(starts, starts=starts)
    assert fields["partitions"] == [*range(SHOWN_PARTITIONS)] and fields["more_partitions"] == 5_000 - SHOWN_PARTITIONS
    assert len(json.dumps(fields)) < LINE_BYTES - 1_000
