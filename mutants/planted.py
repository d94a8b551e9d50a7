"""Mistakes that a reader planted and no test had noticed: each must be found by its tests, and by an assertion."""

from __future__ import annotations

import attrs


@attrs.frozen
class Planted:
    """``before`` stands once in the file, and is ``after`` instead."""

    name: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def applied(self, source: bytes) -> bytes:
        """Raises ValueError when the file has changed, so that the mistake cannot be made any more as it is written here."""
        if source.count(self.before.encode()) != 1:
            raise ValueError(f"{self.path} does not have once what {self.name!r} changes")
        return source.replace(self.before.encode(), self.after.encode())


ASSIGNMENTS = "tss/state/assignments.py"
COMMITTER_TESTS = ("tests/tasks/test_committer.py",)
SIGNALS = "tss/edges/signals.py"
FORCED_END_TESTS = "tests/real/test_forced_end.py"
REDIS_TESTS = ("tests/real/test_redis_edge.py::test_the_contract",)

PLANTED = (
    Planted(
        "lost partitions are not marked gone",
        ASSIGNMENTS,
        """gone = self._forget(ids)
        for partition in gone:
            partition.gone = True""",
        """gone = self._forget(ids)
        for partition in gone:
            partition.gone = False""",
        COMMITTER_TESTS,
    ),
    Planted(
        "a commit of the assignment before is believed",
        ASSIGNMENTS,
        "if partition is None or partition is not self._due.get(id):",
        "if partition is None:",
        COMMITTER_TESTS,
    ),
    Planted(
        "a commit that counts on what Redis has lost is believed",
        ASSIGNMENTS,
        "if _is_of(partition, commit):",
        "if True:",
        COMMITTER_TESTS,
    ),
    Planted(
        "the guard of a late park is off by one",
        "tss/edges/redis/parking.py",
        "seq < known_seq or seq >= new_seq",
        "seq < known_seq or seq > new_seq",
        REDIS_TESTS,
    ),
    Planted(
        "a park does not say how many before it are unheard",
        "tss/edges/redis/parking.py",
        "seq, seq + unheard + 1]",
        "seq, seq + 1]",
        REDIS_TESTS,
    ),
    Planted(
        "reading back misses the trace whose last record is the first wanted",
        "tss/edges/kafka_output/readback.py",
        "found.last >= self.offsets[partition]",
        "found.last > self.offsets[partition]",
        ("tests/edges/kafka_output/test_readback.py",),
    ),
    Planted(
        "what was delivered is forgotten one record too early",
        "tss/core/partition.py",
        "if known.last >= offset}",
        "if known.last > offset}",
        ("tests/core/test_output_traces.py",),
    ),
    Planted(
        "the dead letter's file is not synced",
        "tss/edges/files/lines.py",
        "                    os.fsync(self._descriptor)",
        "                    pass",
        ("tests/edges/dead_letters/test_dead_letters.py",),
    ),
    Planted(
        "the dead letters' file is opened without syncing",
        "tss/edges/files/dead_letters.py",
        "begins=BEGINS, fsync=True",
        "begins=BEGINS, fsync=False",
        ("tests/edges/dead_letters/test_dead_letters.py",),
    ),
    Planted(
        "a commit that says the same as one under way is not answered",
        "tss/edges/kafka/member.py",
        "waiting.pop(0)",
        "waiting[0]",
        ("tests/edges/kafka/test_member.py",),
    ),
    Planted(
        "no answer to a commit is heard",
        "tss/edges/kafka/member.py",
        "                hear(self._refusal(error, places))",
        "                pass",
        ("tests/real/test_kafka_edge.py::test_contract",),
    ),
    Planted(
        "no forced end",
        SIGNALS,
        "deadline.watch(heard, STOPS,",
        "deadline.watch(heard, (),",
        (f"{FORCED_END_TESTS}::test_law_9_with_stderr_full_and_the_daemon_hung_it_ends_within_the_deadline",),
    ),
    Planted(
        "no forced end of a second signal",
        SIGNALS,
        "(ending.at_once_secs, *hastened)",
        "(ending.stop_secs, *hastened)",
        (f"{FORCED_END_TESTS}::test_law_9_a_second_signal_ends_a_hung_daemon_at_once",),
    ),
    Planted(
        "no forced end where there is no compiler",
        SIGNALS,
        "faulthandler.dump_traceback_later(secs, exit=True, file=nowhere)",
        "pass",
        (f"{FORCED_END_TESTS}::test_law_9_interpreted_with_stderr_full_and_the_loop_hung",),
    ),
)
