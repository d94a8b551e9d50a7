"""Why a trace was decided as it was, in words: made only when somebody asks, from an entry of the decision log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from tss.core.collector.sampler import Voter
from tss.core.collector.votes import AllOf, Always, AnyHeld, Chosen, Held, Opposite, SpanCount
from tss.core.collector.votes import Vote as Ballot
from tss.core.combining import NONE
from tss.core.conditions.formula import Ask, OfRoot, OfSpans, Place, Window
from tss.core.conditions.formula import told as formula_told
from tss.core.conditions.statement import (
    MOST,
    Asked,
    Computed,
    Denied,
    Every,
    Number,
    Some,
    Statement,
    Within,
)
from tss.core.decision import Decision, Reason
from tss.core.decision_log import ELSEWHERE, GIVEN_RANDOMNESS, REPLAYED, Entry
from tss.core.evaluation import RULES_UNKNOWN
from tss.core.explaining import Says, Voice, threshold_of, voices
from tss.core.policies.errors import Errors
from tss.core.policies.latency import Latency
from tss.core.policies.matching import Matching
from tss.core.policies.policy import Policy
from tss.core.policies.probability import randomness

MOST_CHARS = 300  # of a condition's text

CLOSED = {
    Reason.ROOT_QUIET: "its root had arrived, no parent was missing, and no more spans came for app.rootQuietSecs",
    Reason.INACTIVE: "no span came for app.inactivityTimeoutSecs",
    Reason.MAX_DURATION: "it was open for app.maxTraceDurationSecs",
    Reason.DECISION_WAIT: "it was open for decision_wait",
    Reason.ROOT_WAIT: "its root had arrived, and decision_wait_after_root_received was over",
    Reason.SPAN_LIMIT: "it had app.maxTraceSpans spans",
    Reason.TOO_LARGE: "it had more bytes than maximum_trace_size_bytes",
    Reason.PRESSURE: "memory was full, and it was the oldest open trace",
    Reason.OTHER: "the replica that decided it did not say",
}


@attrs.frozen
class Numbers:
    """What is known of a trace besides its votes."""

    duration_us: int
    spans: int
    errors: int
    bytes: int = 0


def document(entry: Entry) -> dict[str, object]:
    """The entry as JSON has it: see docs/why.md."""
    decision, numbers = entry.decision, Numbers(entry.duration_us, entry.spans, entry.errors, entry.bytes)
    heard = voices(entry.sampler, entry.votes)
    given = bool(entry.marks & GIVEN_RANDOMNESS)
    drawn = None if given else randomness(entry.trace_id)
    compared = threshold_of(decision) if entry.votes and decision.rule is None else None
    return {
        "verdict": decision.verdict.value,
        "policy": decision.policy or None,
        "because": because(decision, entry.sampler.policies, heard, numbers, drawn),
        "reason": decision.reason.value,
        "closedBecause": CLOSED[decision.reason],
        "rate": None if entry.marks & ELSEWHERE and not decision.policy else decision.rate,
        "ruleset": ruleset_of(decision, entry) or None,
        "origin": "replayed" if entry.marks & REPLAYED else "elsewhere" if entry.marks & ELSEWHERE else "decided",
        "closedAt": when(entry.closed_secs),
        "decidedAt": when(entry.decided_secs),
        "partition": entry.partition,
        "spans": entry.spans,
        "errors": entry.errors,
        "durationMs": entry.duration_us / 1000,
        "bytes": entry.bytes,
        "lateSpans": entry.late_spans,
        "destinations": None if decision.destinations is None else [*decision.destinations],
        "randomness": None if drawn is None else f"{drawn:014x}",
        "threshold": None if compared is None else f"{compared:014x}",
        "votes": votes_of(entry.sampler.policies, heard, numbers),
    }


def ruleset_of(decision: Decision, entry: Entry) -> str:
    """The fingerprint of the ruleset that decided; empty if it is not known."""
    return decision.ruleset or entry.sampler.ruleset


def votes_of(policies: Sequence[Policy], heard: Sequence[Voice], numbers: Numbers) -> list[dict[str, object]]:
    """What each policy says, and of those that matched, why."""
    return [_vote(policy, voice, numbers) for policy, voice in zip(policies, heard, strict=False)]


def _vote(policy: Policy, voice: Voice, numbers: Numbers) -> dict[str, object]:
    found: dict[str, object] = {"policy": voice.policy, "vote": voice.says.value, "rate": voice.rate}
    if voice.says in (Says.KEEP, Says.DROP, Says.SAMPLED):
        found["because"] = matched(policy, numbers)
    if voice.shadow:
        found["shadow"] = True
    return found


def because(
    decision: Decision, policies: Sequence[Policy], heard: Sequence[Voice], numbers: Numbers, drawn: int | None
) -> str:
    """The sentence that explains a verdict. ``drawn`` is the randomness; None: a span's trace state gave it."""
    if decision.reason is Reason.TOO_LARGE:
        return f"it had {numbers.bytes:,} bytes, more than maximum_trace_size_bytes"
    if decision.rule is not None:
        return f"the force rule {decision.rule} matched"
    if decision.policy == NONE:
        return "no policy matched" if not decision.rate else "no policy sampled it by chance"
    if decision.policy == RULES_UNKNOWN:
        return (
            "the ruleset that was in force when it closed is not known here, or its spans cannot be read again for it"
        )
    if not decision.policy:
        return "another replica had dropped it, and does not tell why"
    known = {voice.policy: policy for policy, voice in zip(policies, heard, strict=False)}
    policy = known.get(decision.policy)
    if policy is None:
        return f"{decision.policy} decided it on another replica, or before this start"
    found = matched(policy, numbers)
    return found if decision.rate in (0, 1) else f"{found}; {_chance(decision, drawn)}"


def _chance(decision: Decision, drawn: int | None) -> str:
    compared = threshold_of(decision)
    share = f"{decision.rate * 100:.4g} % of such traces are kept"
    verb = "kept" if decision.keeps else "dropped"
    if compared is None:
        return f"{share}, and the hash of its id is among those {verb}"
    if drawn is None:
        return f"{share}, and the randomness of its trace state is among those {verb}"
    return f"{share}: its randomness {drawn:014x} is {'at least' if decision.keeps else 'below'} {compared:014x}"


# -- why a policy matched


def matched(policy: Policy, numbers: Numbers) -> str:
    """Why a policy applies to a trace, with the numbers of the trace that it compares."""
    match policy:
        case Errors():
            return f"{numbers.errors:,} of {numbers.spans:,} spans have status ERROR"
        case Latency():
            return f"{duration(numbers.duration_us)} >= {duration(round(policy.threshold_ms * 1000))}"
        case Matching():
            return _short(_statement(policy.statement, numbers))
        case Voter():
            return _short(_ballot(policy.ballot, numbers))
    return "it applies to every trace"


def _statement(statement: Statement, numbers: Numbers) -> str:
    match statement:
        case Asked(ask):
            return _ask(ask)
        case Within(number, low, high):
            return _within(number, low, high, numbers)
        case Computed(told):
            return f"{told} ({duration(numbers.duration_us)}, {numbers.spans:,} spans, {numbers.errors:,} errors)"
        case Every(()):
            return "it applies to every trace"
        case Every(of):
            return " and ".join([_statement(each, numbers) for each in of])
        case Some(of):
            holding = [each for each in of if _holds(each, numbers) is not False]
            return " or ".join([_statement(each, numbers) for each in holding or of])
        case Denied(of):
            return f"not ({_statement(of, numbers)})"


def _holds(statement: Statement, numbers: Numbers) -> bool | None:
    """Whether a statement about the trace's numbers holds; None if more has to be known."""
    if isinstance(statement, Within):
        return statement.low <= _value(statement.number, numbers) <= statement.high
    return None


def _ask(ask: Ask) -> str:
    match ask:
        case OfSpans(formula, each):
            return f"{'an event' if each is Place.EVENT else 'a span'} has {formula_told(formula)}"
        case OfRoot(formula):
            return f"the root has {formula_told(formula)}"
        case Window(threshold, upper):
            return f"its duration was above {threshold} ms" + (f" and up to {upper} ms" if upper else "")


def _value(number: Number, numbers: Numbers) -> int:
    if number is Number.DURATION_NS:
        return numbers.duration_us * 1000
    return numbers.spans if number is Number.SPANS else numbers.errors


def _within(number: Number, low: int, high: int, numbers: Numbers) -> str:
    """A range as a comparison. `> 5 s` is a range that begins a nanosecond above."""
    value = _said(number, _value(number, numbers))
    if high >= MOST:
        above = number is not Number.DURATION_NS or low % 1000 == 1
        return f"{value} > {_said(number, low - 1)}" if above and low else f"{value} >= {_said(number, low)}"
    if low <= 0:
        return f"{value} <= {_said(number, high)}"
    return (
        f"{value} = {_said(number, low)}"
        if low == high
        else f"{_said(number, low)} <= {value} <= {_said(number, high)}"
    )


def _said(number: Number, value: int) -> str:
    if number is Number.DURATION_NS:
        return duration(value / 1000)
    return f"{value:,} {'spans' if number is Number.SPANS else 'errors'}"


def _ballot(ballot: Ballot, numbers: Numbers) -> str:
    match ballot:
        case Always():
            return "it samples every trace"
        case Held(asks=(ask,)):
            return f"not ({_ask(ask)})" if ballot.inverted else _ask(ask)
        case AnyHeld():
            return " or ".join(map(_ask, ballot.asks))
        case SpanCount():
            return f"it has {numbers.spans:,} spans"
        case Chosen():
            return f"the hash of its id is among {ballot.share * 100:.4g} %"
        case AllOf():
            return " and ".join([_ballot(each, numbers) for each in ballot.members]) or "it samples every trace"
        case Opposite():
            return f"not ({_ballot(ballot.member, numbers)})"
    return "its condition holds"


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"


def duration(us: float) -> str:
    """Microseconds in a unit that people read: 350 ms, 5.2 s, 12.5 min."""
    if us < 1000:
        return f"{us:.4g} us"
    if us < 1_000_000:
        return f"{us / 1000:.4g} ms"
    if us < 600_000_000:
        return f"{us / 1_000_000:.4g} s"
    return f"{us / 60_000_000:.4g} min"


def when(secs: float) -> str | None:
    """Seconds since 1970 as a time in UTC; None if it is not known."""
    if not 0 < secs < 253_402_300_800 or math.isnan(secs):
        return None
    return datetime.fromtimestamp(secs, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
