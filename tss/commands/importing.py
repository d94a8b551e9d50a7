"""`tss import otel`: the policies of a Collector's `tail_sampling` section in our own form, as YAML with comments."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from tss.commands import DONE, FAILED, WRONG_USE
from tss.commands.admin import tell
from tss.commands.config import STDIN, completes_files
from tss.core.collector import VERSIONS, Plan, WrongSection, read
from tss.core.collector.plan import Version
from tss.core.collector.section import KEYS
from tss.core.collector.translation import Translated, translate
from tss.core.collector.wrong import Wrong
from tss.settings.document import dump, lines, parse
from tss.settings.errors import InvalidValue

DESCRIPTION = """\
Write the policies of a Collector's tail_sampling section in our own form (sampling.policies). A comment stands at each
place where the section does not do what it seems to say, and where the verdicts differ ("Differs: ...").

To keep the section as it stands, copy it into sampling.otelTailSampling instead: see docs/otel-tail-sampling.md.
"""
EPILOG = """\
examples:
  %(prog)s otel collector.yaml                       to the screen
  %(prog)s otel collector.yaml --output tss.yaml     to a new file
  %(prog)s otel - < section.yaml                     from stdin
  %(prog)s otel collector.yaml --skip-refused        without the policies that are refused

exit codes: 0 done; 1 the section is refused, and all reasons are listed; 2 a wrong command line, or no such file
"""

MISSING = (
    "Add these two sections: where spans come from, and where kept ones go. All keys are in docs/settings.md.",
    "kafka:",
    "  brokers: kafka:9092",
    "  inputTopic: otel-traces-raw",
    "exporters:",
    "  - name: backend",
    "    type: otlp",
    "    endpoint: http://otel-backend:4318",
)
"""The sections that the written file has as a comment."""

_WIDTH = 120
_TYPE = "tail_sampling"
_OF_POLICY = re.compile(r"policies\[([0-9]+)\]")
_NOTHING = {"type": "status_code", "status_code": {"status_codes": ["OK"]}}


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("kind", choices=["otel"], help="otel: a configuration of the OpenTelemetry Collector")
    completes_files(
        parser.add_argument("file", metavar="FILE", help="a Collector's configuration, or only the section; - is stdin")
    )
    parser.add_argument("--processor", metavar="NAME", help="which one, if the file has several: tail_sampling/NAME")
    parser.add_argument(
        "--skip-refused",
        action="store_true",
        help="leave out the policies that are refused, and write a comment in the place of each",
    )
    parser.add_argument("--gates", metavar="A,B", default="", help="feature gates that are on in the Collector")
    parser.add_argument("--as", dest="version", choices=VERSIONS, default=VERSIONS[0], help="the Collector's version")
    completes_files(
        parser.add_argument("--output", metavar="FILE", help="write to this file, which must not exist yet")
    )


class _CannotImport(Exception):
    """There is nothing to import. The text says why, and what to do."""


@attrs.frozen
class _Section:
    """A section and where it stands. `lines` has the line of each path of the file; `path` is the section's own one."""

    file: str
    name: str
    path: str
    body: object
    lines: Mapping[str, int]

    def policy(self, place: int) -> str:
        """The name of a policy, as far as it has one."""
        entries = self.body.get("policies") if isinstance(self.body, Mapping) else None
        entry = entries[place] if isinstance(entries, list) and place < len(entries) else None
        name = entry.get("name") if isinstance(entry, Mapping) else None
        return name if isinstance(name, str) else ""

    def line(self, path: str) -> int | None:
        """The line of a key, or of what contains it."""
        whole = ".".join(filter(None, (self.path, path)))
        while whole and whole not in self.lines:
            whole = whole[: max(whole.rfind("."), whole.rfind("["), 0)]
        return self.lines.get(whole)

    def told(self, wrong: Wrong) -> str:
        """A reason to refuse it, with its place."""
        if wrong.path.startswith("otelGates"):
            return f"--gates: {_reason(wrong)}"
        line, place = self.line(wrong.path), _place(wrong)
        name = "" if place is None else self.policy(place)
        of_policy = f" (policy {name})" if name else ""
        at = "" if line is None else f"line {line}: "
        return f"{at}{wrong.path or self.name}{of_policy}: {_reason(wrong)}"


def _reason(wrong: Wrong) -> str:
    hint = f" ({wrong.hint})" if wrong.hint else ""
    return f"found {wrong.found}; allowed: {wrong.allowed}{hint}"


def _place(wrong: Wrong) -> int | None:
    """Which policy of the section is refused. None: the section itself."""
    found = _OF_POLICY.match(wrong.path)
    return None if found is None else int(found[1])


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Read, translate and write; returns the exit code."""
    gates = [gate for gate in options.gates.split(",") if gate]
    try:
        section = _section(options.file, options.processor)
        try:
            plan, left_out = _planned(section, gates, options.version, skip=options.skip_refused)
        except WrongSection as error:
            tell(_refusal(section, error), sys.stderr)
            return FAILED
        text = "".join(f"{line}\n" for line in written(plan, f"{section.file}, {section.name}", left_out))
        _write(text, options.output)
    except _CannotImport as error:
        tell([str(error)], sys.stderr)
        return WRONG_USE
    if options.output is not None:
        tell(_summary(plan, left_out, options.output), sys.stdout)
    return DONE


def _planned(
    section: _Section, gates: Sequence[str], version: Version, *, skip: bool
) -> tuple[Plan, Mapping[int, Sequence[str]]]:
    """The plan, and of each policy that is left out its place and the comment in its place. Raises WrongSection."""
    try:
        return read(section.body, gates, version), {}
    except WrongSection as error:
        places = {_place(each) for each in error.wrong}
        if not skip or None in places:
            raise
        left_out = {
            place: [
                f"policies[{place}]{f': {name}' if (name := section.policy(place)) else ''}",
                "Differs: this policy is left out, because it is refused:",
                *(f"{each.path}: {_reason(each)}." for each in error.wrong if _place(each) == place),
            ]
            for place in places
            if place is not None
        }
    body = cast(Mapping[str, Any], section.body)
    # A policy that samples nothing stands in the place of each, so that the others keep their numbers.
    entries = [
        {"name": f"policies[{place}], left out", **_NOTHING} if place in left_out else entry
        for place, entry in enumerate(body["policies"])
    ]
    return read({**body, "policies": entries}, gates, version), left_out


def _refusal(section: _Section, error: WrongSection) -> Iterator[str]:
    yield f"{section.file}: the section {section.name} is refused:"
    in_order = sorted(error.wrong, key=lambda each: section.line(each.path) or 0)
    yield from (f"  {section.told(each)}" for each in in_order)
    if all(_place(each) is not None for each in error.wrong):
        yield "--skip-refused imports the other policies, and writes a comment in the place of each that is refused"


def _summary(plan: Plan, left_out: Mapping[int, Sequence[str]], output: str) -> Iterator[str]:
    translated = translate(plan)
    made = [each for place, each in enumerate(translated) if place not in left_out and each.when is not False]
    remarks = [remark for place, each in enumerate(translated) if place not in left_out for remark in each.remarks]
    differ = len(left_out) + sum(map(_differs, remarks)) + (plan.section.maximum_trace_size_bytes > 0)
    notes = sum(not _differs(remark) for remark in remarks)
    notes += sum(not note.path.startswith("policies[") for note in plan.notes)
    yield (
        f"{output}: written with {len(made)} of {_count(len(translated), 'policy', 'policies')}. Its comments have "
        f"{_count(notes, 'note', 'notes')}, and {_count(differ, 'place', 'places')} where the verdicts differ (`Differs`)"
    )
    if left_out:
        yield f"left out, because they are refused: {_count(len(left_out), 'policy', 'policies')}"
    yield f"next: fill in kafka and exporters, which are there as comments; then `tss check --config {output}`"


def _differs(remark: str) -> bool:
    return remark.startswith("Differs")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


# ---- reading


def _section(file: str, wanted: str | None) -> _Section:
    """The section of a file. Raises _CannotImport."""
    shown = "stdin" if file == STDIN else file
    document, lines_of = _document(file, shown)
    if not isinstance(document, Mapping):
        raise _CannotImport(
            f"{shown}: this is no YAML mapping: give a Collector's configuration, or the body of its section"
        )
    processors = document.get("processors", document)
    if not isinstance(processors, Mapping):
        raise _CannotImport(f"{shown}: processors is no mapping, so it has no tail_sampling section")
    found = {str(name): body for name, body in processors.items() if str(name).partition("/")[0] == _TYPE}
    if not found and processors is document and document.keys() & set(KEYS):
        return _Section(shown, _TYPE, "", document, lines_of)
    if not found:
        raise _CannotImport(
            f"{shown}: no tail_sampling section: expected processors.tail_sampling, or policies at the top"
        )
    names = ", ".join(found)
    if wanted is not None:
        wanted = wanted if wanted.partition("/")[0] == _TYPE else f"{_TYPE}/{wanted}"
        found = {name: body for name, body in found.items() if name == wanted}
        if not found:
            raise _CannotImport(f"{shown}: no section {wanted}; there are: {names}")
    if len(found) > 1:
        raise _CannotImport(f"{shown}: it has several sections: {names}; choose one with --processor")
    ((name, body),) = found.items()
    return _Section(shown, name, name if processors is document else f"processors.{name}", body, lines_of)


def _document(file: str, shown: str) -> tuple[object, Mapping[str, int]]:
    """The document, and the lines of its keys."""
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
        value, double_keys = parse(text)
    except OSError as error:
        raise _CannotImport(f"{shown}: no readable file: {error.strerror}") from None
    except ValueError:
        raise _CannotImport(f"{shown}: this is not UTF-8 text") from None
    except InvalidValue as error:
        raise _CannotImport(f"{shown}: {error.errors[0].found}") from None
    for double in double_keys:
        raise _CannotImport(f"{shown}: {double.path}: {double.found}; allowed: {double.allowed}")
    return value, lines(text)


def _write(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _CannotImport(f"{output}: cannot be written: {error.strerror}") from None


# ---- writing


def written(plan: Plan, source: str, left_out: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """The lines of the YAML. `left_out` has the comment in the place of a policy that was refused."""
    yield from _comment(f"Written by `tss import otel` from {source}.")
    yield from _comment("Comments that begin with `Differs` say where the verdicts are not the Collector's.")
    yield ""
    yield from (f"# {line}" for line in MISSING)
    yield ""
    yield "sampling:"
    yield "  policies:"
    translated = translate(plan)
    for place, each in enumerate(translated):
        if place in left_out:
            for text in left_out[place]:
                yield from _comment(text, 4)
        else:
            yield from _policy(each)
    if all(each.when is False for place, each in enumerate(translated) if place not in left_out):
        yield from _comment("No policy matches any trace, so this one keeps none.", 4)
        yield "    - {name: nothing, keep: 0}"
    yield ""
    yield from _waits(plan)
    for note in plan.notes:
        if not note.path.startswith("policies["):
            yield from _comment(_ended(f"{note.path}: {note.text}"))


def _policy(of: Translated) -> Iterator[str]:
    yield from _comment(f"{of.path}: {of.name}", 4)
    for remark in of.remarks:
        yield from _comment(_ended(f"{remark[:1].upper()}{remark[1:]}"), 4)
    if of.when is False:
        yield from _comment("It matches no trace, so it is left out.", 4)
        return
    for line in dump([of.plain]).splitlines():
        yield f"    {line}"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _waits(plan: Plan) -> Iterator[str]:
    section = plan.section
    wait, after_root = max(1, plan.decision_wait_ms / 1000), plan.root_wait_ms / 1000
    yield from _comment(
        "A trace is decided when it is complete and no span came for rootQuietSecs, at the latest after"
    )
    yield from _comment("maxTraceDurationSecs. The Collector decides after decision_wait, complete or not.")
    yield "app:"
    if 0 < after_root < wait:
        yield f"  rootQuietSecs: {after_root:g}  # decision_wait_after_root_received"
    else:
        yield f"  rootQuietSecs: {min(wait, 5):g}"
    yield f"  inactivityTimeoutSecs: {wait:g}"
    yield f"  maxTraceDurationSecs: {wait:g}  # decision_wait"
    if section.maximum_trace_size_bytes:
        text = "Differs: maximum_trace_size_bytes cannot be said here; app.maxTraceSpans is a limit in spans"
        yield from _comment(f"{text}, and such a trace is decided at once, not dropped.")


def _comment(text: str, indent: int = 0) -> Iterator[str]:
    start = f"{' ' * indent}# "
    # YAML has more line breaks than the line feed, and a comment ends at each.
    text = "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )
    yield from textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False)
