"""The laws of the design, held against everything that happened in a world."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.simulation.oracle import Chronicle, Fact, Occurrence, keeps
from tests.simulation.watch import Incarnation, Ruling
from tests.simulation.world import NEVER, World
from tss.core import measures
from tss.core.decision import Reason
from tss.core.otlp import Encoding, scan
from tss.settings import Sampling, fingerprint_of


@attrs.frozen
class Case:
    """A world, what its log says, and all rulings of its lives by trace."""

    world: World
    chronicle: Chronicle
    rulings: dict[bytes, list[Ruling]]
    samplings: dict[str, Sampling]  # all that were ever in the file, by fingerprint


def breaches(world: World) -> list[str]:
    """Every breach of every law, in words; empty when all were kept."""
    if world.deaths:
        return world.broken  # what follows from that is not worth the reading
    logs = [
        [
            (
                entry.offset,
                entry.timestamp_ms,
                entry.appended_ms,
                world.facts[number, entry.offset],
                world.sizes[number, entry.offset],
            )
            for entry in log.entries
        ]
        for number, log in enumerate(world.kafka.logs)
    ]
    plan = world.plan
    chronicle = Chronicle.of(logs, plan.settings.app, world.ended_ms, plan.waits, plan.max_trace_bytes)
    samplings = [plan.settings.sampling, *(change.sampling for change in plan.changes)]
    case = Case(world, chronicle, _rulings(world), {fingerprint_of(each): each for each in samplings})
    checks = (
        _nothing_kept_is_lost(case),
        _garbage_is_put_aside(world),
        _rulings_are_right(case),
        _verdicts_agree(case),
        _dropped_is_dropped(world),
        _bytes_out_are_bytes_in(world, chronicle),
        _weights_are_true(case),
        _nothing_twice_in_calm(world),
        _nothing_twice_in_order(world),
        _memory_has_a_limit(world),
        *(
            _the_meter_tells_the_truth(world, life)
            for life in world.lives
            if life.ended != "killed" and not life.hurried
        ),
    )
    return [*world.broken, *(text for check in checks for text in check)]


# -- law 1


def _nothing_kept_is_lost(case: Case) -> Iterator[str]:
    """No commit passes a span that is neither everywhere nor of a trace that was rightly dropped."""
    world = case.world
    passed = _passed_at(world)
    for trace_id, seen in case.chronicle.occurrences.items():
        kept = _is_surely_kept(case, trace_id)
        for each in seen:
            passed_at = passed.get(each.place, NEVER)
            excused_at = NEVER if kept else world.excused.get((*each.place, trace_id), NEVER)
            for fact in each.facts:
                arrived_at = max(delivered.get(fact.key, NEVER) for delivered in world.delivered)
                if min(arrived_at, excused_at) > passed_at:
                    what = "never came" if arrived_at == NEVER else "came later"
                    yield (
                        f"law 1: the commit at moment {passed_at} passed {each.place} although span "
                        f"{fact.key.span_id.hex()} of {trace_id.hex()[:8]} {what}{' (surely kept)' if kept else ''}"
                    )


def _passed_at(world: World) -> dict[tuple[int, int], int]:
    passed: dict[tuple[int, int], int] = {}
    reached: dict[int, int] = defaultdict(int)  # by partition, the index of the first entry not passed yet
    for passing in world.commits:
        entries = world.kafka.logs[passing.partition].entries
        # From the floor on Redis has what is parked; and should it lose that, the next owner reads from there.
        low_water = passing.commit.parked.floor if passing.commit.parked else passing.commit.offset
        while reached[passing.partition] < len(entries):
            offset = entries[reached[passing.partition]].offset
            if offset >= low_water:
                break
            passed[passing.partition, offset] = passing.moment
            reached[passing.partition] += 1
    return passed


def _is_surely_kept(case: Case, trace_id: bytes) -> bool:
    group = _promised_group(case, trace_id)
    return group is not None and all(_is_kept(case, group, each) for each in case.samplings.values())


def _is_kept(case: Case, group: list[Occurrence], sampling: Sampling) -> bool:
    """What a ruling on these by these policies must say."""
    return not case.chronicle.is_too_large(group) and keeps(_facts(group), sampling)


def _ruled_by(case: Case, ruling: Ruling) -> Sampling:
    """A trace that is too large is dropped by no ruleset."""
    return case.samplings.get(ruling.decision.ruleset, case.world.plan.settings.sampling)


def _garbage_is_put_aside(world: World) -> Iterator[str]:
    """Law 4, and law 1 of what cannot be read: it is in the dead letters before a commit passes it."""
    passed = _passed_at(world)
    for number, log in enumerate(world.kafka.logs):
        for entry in log.entries:
            for error in scan(entry.value, Encoding.AUTO).scan_errors:
                kept_at = world.set_aside.get((number, entry.offset), {}).get(error.reason.value, NEVER)
                if kept_at > passed.get((number, entry.offset), NEVER):
                    yield f"law 4: garbage {number}:{entry.offset} ({error.reason.value}) was passed before it was dead-lettered"
                if kept_at == NEVER:
                    yield f"law 4: garbage {number}:{entry.offset} ({error.reason.value}) is not in the dead letters"


# -- laws 2 and 3


def _rulings(world: World) -> dict[bytes, list[Ruling]]:
    by_trace: dict[bytes, list[Ruling]] = defaultdict(list)
    for life in world.lives:
        for ruling in life.rulings:
            by_trace[ruling.trace_id].append(ruling)
    return by_trace


def _promised_group(case: Case, trace_id: bytes) -> list[Occurrence] | None:
    """What every ruling on the trace must have known, where the design promises that.

    It does not: when the log leaves it open (two partitions, a gap near a deadline, timestamps from nowhere), when
    memory was short, and when a ruling was made after a start so far down the log that even the trace's last span lay
    more than ``replaySecs`` before it. (A trace that ended within that time is read again from its beginning.) Where
    Redis lost what was parked, and reading begins at a floor, the replay is still that of the offset committed.
    """
    group = case.chronicle.first_group(trace_id)
    if group is None:
        return None
    for ruling in case.rulings.get(trace_id, ()):
        if ruling.decision.reason is Reason.PRESSURE:
            return None
        last = group[-1] if case.world.plan.settings.app.replay_secs else group[0]
        starts = [max(start, _committed_before(case.world, ruling, id)) for id, start in ruling.starts]
        if not all(case.chronicle.is_reread(last, committed) for committed in starts):
            return None
    return group


def _committed_before(world: World, ruling: Ruling, partition: int) -> int:
    """What others had committed of it; less than where reading began, but for a floor."""
    if world.plan.shared is None:
        return 0
    found = [
        passing.commit.offset
        for passing in world.commits
        if passing.partition == partition
        and passing.moment < ruling.moment
        and passing.incarnation != ruling.incarnation
    ]
    return max(found, default=0)


def _facts(group: list[Occurrence]) -> list[Fact]:
    return [fact for each in group for fact in each.facts]


def _rulings_are_right(case: Case) -> Iterator[str]:
    """Each ruling is what the policies and the size limit say of the spans it knew."""
    for trace_id, rulings in case.rulings.items():
        for ruling in rulings:
            known = [each for each in case.chronicle.occurrences[trace_id] if each.place in ruling.known]
            if _is_kept(case, known, _ruled_by(case, ruling)) is not ruling.decision.keeps:
                yield f"law 2: {_of(ruling)} is not what the policies say of {ruling.known}"
            if case.chronicle.is_too_large(known) is not (ruling.decision.reason is Reason.TOO_LARGE):
                yield f"law 4: {_of(ruling)} gives the wrong reason for {ruling.known}"


def _verdicts_agree(case: Case) -> Iterator[str]:
    """Every ruling on a trace, in whichever incarnation, knew the same spans: those that the log says it knew."""
    for trace_id, rulings in case.rulings.items():
        group = _promised_group(case, trace_id)
        if group is None:
            continue
        right = {each.place for each in group}
        verdict = _is_kept(case, group, _ruled_by(case, rulings[0]))
        for ruling in rulings:
            if ruling.decision.policy == "unknown_rules":
                yield f"law 2: {_of(ruling)} was made without the rules, which are known"
            elif ruling.decision.keeps is not rulings[0].decision.keeps:
                yield f"law 2: {_of(ruling)} is another verdict than that of {_of(rulings[0])}"
            elif ruling.decision.keeps is not verdict:
                yield f"law 2: {_of(ruling)}, but the log says keep={verdict}"
            if set(ruling.known) != right:
                yield f"law 3: {_of(ruling)} knew {ruling.known}, but the log says {sorted(right)}"


def _dropped_is_dropped(world: World) -> Iterator[str]:
    """No incarnation sends a span of a trace that it has dropped."""
    dropped = {
        (life.serial, ruling.trace_id) for life in world.lives for ruling in life.rulings if not ruling.decision.keeps
    }
    for destination in world.destinations:
        for arrival in destination.arrivals:
            if (arrival.sender, arrival.key.trace_id) in dropped:
                yield f"law 2: #{arrival.sender} dropped {arrival.key.trace_id.hex()[:8]} and sent {arrival.key}"


def _of(ruling: Ruling) -> str:
    decision = ruling.decision
    return (
        f"the ruling of #{ruling.incarnation} on {ruling.trace_id.hex()[:8]} "
        f"({decision.verdict.value}, {decision.policy}, {decision.reason.value}, started at {ruling.starts}"
        f"{', ' + decision.ruleset if decision.ruleset else ''})"
    )


# -- laws 4, 5, 6


def _bytes_out_are_bytes_in(world: World, chronicle: Chronicle) -> Iterator[str]:
    """Law 6: what arrives is, byte for byte, what was written, but for the weight."""
    written = {fact.wire for seen in chronicle.occurrences.values() for each in seen for fact in each.facts}
    weighs = _weighs(world)
    for destination in world.destinations:
        for arrival in destination.arrivals:
            if (_without_weight(arrival.span) if weighs else arrival.span) not in written:
                yield f"law 6: {destination.name} has a span that nobody wrote: {arrival.key}"


def _weighs(world: World) -> bool:
    settings = world.plan.settings
    return settings.sampling.weights and bool(settings.exporters)


def _without_weight(wire: bytes) -> bytes:
    span = Span.FromString(wire)
    span.trace_state = ""  # nobody writes one in this world
    return span.SerializeToString()


def _weights_are_true(case: Case) -> Iterator[str]:
    """Law 7: each span says by which rate it was kept, late ones too; its trace id passes that threshold."""
    if not _weighs(case.world):
        return
    for destination in case.world.destinations:
        for arrival in destination.arrivals:
            state, trace_id = Span.FromString(arrival.span).trace_state, arrival.key.trace_id
            threshold = int(state.removeprefix("ot=th:").ljust(14, "0"), 16) if state else -1
            # To a part in 2**52: rates are doubles.
            shares = [(2**56 - threshold) / 2**56, *(each.decision.rate for each in case.rulings.get(trace_id, ()))]
            if not any(abs(shares[0] - rate) < 2**-50 for rate in shares[1:]):
                yield f"law 7: {destination.name} has a span of {trace_id.hex()[:8]} with {state!r}, ruled {shares[1:]}"
            if int.from_bytes(trace_id[9:], "big") < threshold:
                yield f"law 7: {destination.name} has a span of {trace_id.hex()[:8]} that {state!r} excludes"


def _nothing_twice_in_calm(world: World) -> Iterator[str]:
    """Where nothing goes wrong, each span arrives as often as it was written."""
    if not world.plan.calm:
        return
    written = Counter(fact.key for by_trace in world.facts.values() for facts in by_trace.values() for fact in facts)
    for destination in world.destinations:
        for key, times in Counter(arrival.key for arrival in destination.arrivals).items():
            if times > written[key]:
                yield f"law 4: {destination.name} has {key} {times} times, written {written[key]} times"


def _nothing_twice_in_order(world: World) -> Iterator[str]:
    """Nor where replicas only come and go, and all of them look into a Redis that is well: law 2 of what was kept."""
    if not world.plan.orderly or any(life.hurried for life in world.lives):
        return
    written = Counter(fact.key for by_trace in world.facts.values() for facts in by_trace.values() for fact in facts)
    for destination in world.destinations:
        for key, times in Counter(arrival.key for arrival in destination.arrivals).items():
            if times > written[key]:
                yield f"law 2: {destination.name} has {key} {times} times, written {written[key]} times"


def _memory_has_a_limit(world: World) -> Iterator[str]:
    for life in world.lives:
        if life.excess_bytes > 0:
            limit = world.plan.settings.app.max_buffer_bytes
            yield f"law 5: #{life.serial} held {life.excess_bytes} bytes more than {limit}, one trace and one record"


def _the_meter_tells_the_truth(world: World, life: Incarnation) -> Iterator[str]:
    """Law 4: what is counted is what happened, in each life that came to its end in good order."""
    meter, counted, member = life.meter, life.counted, life.member
    if member is None:
        return
    expected: list[tuple[str, object, object]] = [
        ("records read", counted["records"], meter.counted(measures.RECORDS_READ)),
        ("records replayed", counted["replayed"], meter.counted(measures.RECORDS_REPLAYED)),
        ("spans ingested", counted["spans"], meter.counted(measures.SPANS_INGESTED)),
        ("unreadable", member.letters_read, meter.counted(measures.UNREADABLE)),
        ("decisions", dict(life.decided), meter.by_label(measures.DECISIONS)),
        ("commits", member.commits_ok, meter.counted(measures.COMMITS, "ok")),
        ("failed commits", member.commits_failed, meter.counted(measures.COMMITS, "failed")),
        (
            "late and duplicate",
            counted["late spans"],
            meter.counted(measures.LATE_SPANS) + meter.counted(measures.DUPLICATE_SPANS),
        ),
    ]
    settled = meter.counted(measures.DECIDED_SPANS) + meter.counted(measures.LATE_SPANS)
    decided = sum(life.decided.values())
    expected += [
        ("spans by policy", settled, meter.counted(measures.POLICY_SPANS)),
        ("traces by policy", decided, meter.counted(measures.POLICY_KEPT) + meter.counted(measures.POLICY_DROPPED)),
        ("traces by service", decided, meter.counted(measures.SERVICE_TRACES)),
        ("kept by service", meter.counted(measures.POLICY_KEPT), meter.counted(measures.SERVICE_KEPT)),
        ("bytes by service", meter.counted(measures.POLICY_BYTES), meter.counted(measures.SERVICE_BYTES_IN)),
    ]
    expected += [
        (
            f"exported to {destination.name}",
            destination.answered_spans[life.serial],
            meter.counted(measures.SPANS_EXPORTED, destination.name),
        )
        for destination in world.destinations
    ]
    for what, happened, shown in expected:
        if happened != shown:
            yield f"law 4: #{life.serial} counts {what}: {shown}, but it was {happened}"
