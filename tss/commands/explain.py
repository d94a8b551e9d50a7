"""`tss explain`: what each policy says of each trace in a file, and what is decided. Nothing is sent."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import attrs

from tss.commands import DONE, FAILED, WRONG_USE
from tss.commands.admin import tell
from tss.commands.config import STDIN, add_config, completes_files, settings_of
from tss.commands.units import share
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.errors import WrongSetting
from tss.core.explaining import Explanation, Says, Voice, explain
from tss.core.memory import Memory
from tss.core.otlp import Encoding, ScanError, ScanErrorReason, Scanner
from tss.core.partition import Partition
from tss.daemon.outside import limits
from tss.daemon.wiring import sampler_of, waits_of
from tss.settings import SettingsError

DESCRIPTION = """\
Say what each policy says of each trace, and what is decided. It works offline: it reads traces from a file, decides them
as the daemon would, and sends nothing. Each line of the file is OTLP JSON, as the Collector's file exporter writes it. The
spans of a trace may be in several lines. A trace is decided when the file ends, unless a limit on its spans or bytes ends it.
Force rules are not asked. The settings need neither brokers nor a destination. The spans of the whole file are in memory.
"""
EPILOG = """\
examples:
  %(prog)s --config tss.yaml --input traces.jsonl
  %(prog)s --config tss.yaml --input - < traces.jsonl
  %(prog)s --config tss.yaml --input traces.jsonl --json

exit codes: 0 done; 1 some lines could not be read, and stderr names them; 2 the settings are wrong, or the input cannot be opened
"""

NOW_MS = 1_000_000_000_000
LATER_MS = NOW_MS + 10**12  # after all waits
FAR = 1 << 40  # a file is no stream: traces must not be decided early because there are many
NAME_WIDTH = 40
SHOWN_ERRORS = 20
OTHER_LINES = 1000  # if none of so many can be read, and the first one has another form, all have
_GZIP = b"\x1f\x8b"
_KEYS = ("resourceSpans", "resource_spans")  # the JSON of protobuf has both names


@attrs.frozen
class Told:
    """The explanations in the order in which the traces were met, and the lines that could not be read."""

    traces: Sequence[tuple[Explanation, int]]  # with the number of spans that came after the decision
    unreadable: Sequence[tuple[int, str]]  # line number, from 1 on, and error


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_config(parser)
    completes_files(
        parser.add_argument(
            "--input", metavar="FILE", required=True, help="traces, a line of OTLP JSON each; - reads them from stdin"
        )
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Explain; returns the exit code."""
    if options.input == STDIN and options.config == STDIN:
        tell(["tss explain: stdin cannot be both the settings and the input"], sys.stderr)
        return WRONG_USE
    try:
        settings = settings_of(options, environ, offline=True)
        with _opened(options.input) as lines:
            told = explained(lines, sampler_of(settings), limits(settings), waits_of(settings))
    except (SettingsError, WrongSetting) as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except OSError as error:
        tell([f"tss explain: {options.input}: {error.strerror or error}"], sys.stderr)
        return WRONG_USE
    try:
        _print(told, as_json=options.json)
    except BrokenPipeError:  # such as `| head`: it has read enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the interpreter's own flush is no error
    tell(_errors(told), sys.stderr)
    return FAILED if told.unreadable else DONE


def _errors(told: Told) -> Iterator[str]:
    """The first lines that could not be read, and how many more there are."""
    yield from (f"line {number}: {error}" for number, error in told.unreadable[:SHOWN_ERRORS])
    further = len(told.unreadable) - SHOWN_ERRORS
    if further > 0:
        yield f"and {further:,} more errors of this kind: each line has to be one request in OTLP JSON"


def _print(told: Told, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document(told), indent=2))
    else:
        tell(table(told), sys.stdout)
    sys.stdout.flush()


def _opened(path: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else Path(path).open("rb")


def explained(lines: Iterable[bytes], sampler: Sampler, limits: Limits, waits: Waits) -> Told:
    """Decide the traces in these lines by the daemon's own scanner and buffer. Of ``limits``, those of one trace count."""
    scanner, home = Scanner(program=sampler.program), Partition(0, 0, FAR)
    limits = attrs.evolve(limits, max_bytes=FAR, max_spans=FAR, max_traces=FAR)
    buffer = Buffer(limits, waits, Memory(FAR, FAR), program=sampler.program)
    met: dict[bytes, int] = {}
    found: dict[bytes, Explanation] = {}
    unreadable: list[tuple[int, str]] = []
    other = ""  # what the first line says of the form of all
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        errors: list[ScanError] = []
        records = scanner.records()
        records.add(0, number, NOW_MS)
        scanner.read(line, Encoding.OTLP_JSON, records, errors)
        fragments = records.fragments(0)
        wrong = [error for each in errors if (error := _told(each, line))]
        if wrong and not met and not unreadable and (other := _other_form(line)):
            wrong = [other]
        unreadable += [(number, error) for error in wrong]
        if other and not met and not fragments and len(unreadable) >= OTHER_LINES:
            break
        for each in fragments:
            met[each.trace_id] = met.get(each.trace_id, 0) + each.spans
        buffer.add(home, records, NOW_MS)
        found |= _decided(buffer, sampler)
    buffer.reach(home, LATER_MS)
    found |= _decided(buffer, sampler)
    if other and not met:  # no line is as it has to be, and the first one says why
        del unreadable[1:]
    return Told([(found[trace_id], spans - found[trace_id].spans) for trace_id, spans in met.items()], unreadable)


def _other_form(line: bytes) -> str:
    """What the file is in place of lines of OTLP JSON, and what to do. "": its first line does not show it."""
    text = line.removeprefix(codecs.BOM_UTF8).strip()
    if line.startswith(_GZIP):
        return "the input is compressed by gzip; decompress it first: gunzip -c FILE"
    if text.startswith(b"["):
        return "the input is a JSON array; write each of its requests on one line: jq -c '.[]' FILE"
    if text.startswith(b"{") and text.endswith((b"{", b"[", b",", b":")):
        return "the input has a request on several lines; write each request on one line: jq -c . FILE"
    return ""


def _told(error: ScanError, line: bytes) -> str:
    """The error of a line; "" if it is an export request without spans, which is no error."""
    if error.reason is not ScanErrorReason.EMPTY:
        return error.detail
    keys = sorted(json.loads(line.decode(json.detect_encoding(line), "replace"), strict=False))
    others = [key for key in keys if key not in _KEYS]
    return (
        "" if not others else f"no spans: it has the key {', '.join(others)[:200]}, and spans are below resourceSpans"
    )


def _decided(buffer: Buffer, sampler: Sampler) -> dict[bytes, Explanation]:
    """Decide the traces that have closed. Late spans of earlier ones follow."""
    found = {}
    for trace in buffer.take():
        together = [trace]
        if trace.decision is None:
            why = found[trace.trace_id] = explain(trace, sampler)
            together = buffer.decided(trace, why.decision)
        buffer.settle_all(together)
    return found


# -- as a table


def table(told: Told) -> Iterator[str]:
    """Lines of at most 100 columns, unless names are long."""
    kept = sum(each.decision.keeps for each, _ in told.traces)
    if told.traces:
        yield f"{'TRACE':<32}  {'SPANS':>5}  VERDICT  {'RATE':<8}  {'REASON':<13}  POLICY"
    for each, late in told.traces:
        yield from _block(each, late)
    yield f"{len(told.traces)} traces: {kept} kept, {len(told.traces) - kept} dropped"


def _block(why: Explanation, late: int) -> Iterator[str]:
    decision = why.decision
    yield (
        f"{why.trace_id.hex()}  {why.spans:>5}  {decision.verdict.value:<7}  {share(decision.rate):<8}  "
        f"{decision.reason.value:<13}  {decision.policy}"
    )
    wide = min(NAME_WIDTH, max([len(each.policy) for each in why.voices], default=0))
    for each in why.voices:
        yield f"    {each.policy:<{wide}}  {_said(each)}"
    yield f"    {_compared(why)}"
    if decision.destinations is not None:
        yield f"    sent to: {', '.join(decision.destinations) or 'no destination'}"
    if late:
        yield f"    spans that came after the decision and follow it: {late}"


_WORDS = {
    Says.KEEP: "keep",
    Says.DROP: "drop",
    Says.ABSTAIN: "does not match",
    Says.SAMPLED: "sampled",
    Says.NOT_SAMPLED: "not sampled",
    Says.ERROR: "error: a condition failed, so the policy does not match",
}


def _said(voice: Voice) -> str:
    said = _WORDS[voice.says]
    if voice.rate is not None:
        said += f" {share(voice.rate)}" if voice.says is Says.KEEP else f" (chance of {share(voice.rate)})"
    if not voice.shadow:
        return said
    if voice.would_keep is None:
        return f"{said}  (shadow)"
    return f"{said}  (shadow: if it acted, the trace would be {'kept' if voice.would_keep else 'dropped'})"


def _compared(why: Explanation) -> str:
    randomness = f"randomness {why.randomness:014x}"
    if why.threshold is not None:
        return f"{randomness} {'>=' if why.decision.keeps else '<'} threshold {why.threshold:014x}"
    if why.decision.reason is Reason.TOO_LARGE:
        return "the trace is too large, so no policy is asked"
    if not why.decision.weighted:
        return f"{randomness} did not decide: a policy uses a hash of the trace id"
    return f"{randomness} did not decide"


# -- in JSON


def document(told: Told) -> dict[str, object]:
    """The answer of --json."""
    return {
        "traces": [_document_of(each, late) for each, late in told.traces],
        "unreadable": [{"line": number, "error": error} for number, error in told.unreadable],
    }


def _document_of(why: Explanation, late: int) -> dict[str, object]:
    decision = why.decision
    return {
        "traceId": why.trace_id.hex(),
        "spans": why.spans,
        "lateSpans": late,
        "verdict": decision.verdict.value,
        "policy": decision.policy,
        "rate": decision.rate,
        "reason": decision.reason.value,
        "destinations": None if decision.destinations is None else [*decision.destinations],
        "randomness": f"{why.randomness:014x}",
        "threshold": None if why.threshold is None else f"{why.threshold:014x}",
        "weighted": decision.weighted,
        "votes": [_document_of_voice(each) for each in why.voices],
    }


def _document_of_voice(voice: Voice) -> dict[str, object]:
    found: dict[str, object] = {"policy": voice.policy, "vote": voice.says.value, "rate": voice.rate}
    if voice.shadow:
        found |= {"shadow": True, "wouldKeep": voice.would_keep}
    return found
