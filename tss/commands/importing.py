"""`tss import otel`: the policies of a Collector's `tail_sampling` section in our own form, as YAML with comments."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from tss.commands import DONE, FAILED, WRONG_USE
from tss.commands.config import STDIN, completes_files
from tss.core.collector import VERSIONS, Plan, WrongSection, read
from tss.core.collector.section import KEYS
from tss.core.collector.translation import Translated, translate
from tss.settings.document import dump, parse
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

exit codes: 0 done; 1 the section is refused, and all reasons are listed; 2 a wrong command line, or no such file
"""

_WIDTH = 120
_TYPE = "tail_sampling"


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("kind", choices=["otel"], help="otel: a configuration of the OpenTelemetry Collector")
    completes_files(
        parser.add_argument("file", metavar="FILE", help="a Collector's configuration, or only the section; - is stdin")
    )
    parser.add_argument("--processor", metavar="NAME", help="which one, if the file has several: tail_sampling/NAME")
    parser.add_argument("--gates", metavar="A,B", default="", help="feature gates that are on in the Collector")
    parser.add_argument("--as", dest="version", choices=VERSIONS, default=VERSIONS[0], help="the Collector's version")
    completes_files(
        parser.add_argument("--output", metavar="FILE", help="write to this file, which must not exist yet")
    )


class _CannotImport(Exception):
    """There is nothing to import. The text says why, and what to do."""


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Read, translate and write; returns the exit code."""
    try:
        name, body = _section(_document(options.file), options.processor)
        plan = read(body, [gate for gate in options.gates.split(",") if gate], options.version)
        _write("".join(f"{line}\n" for line in written(plan, f"{options.file}, {name}")), options.output)
    except _CannotImport as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except WrongSection as error:
        print(f"the section {name} is refused:", *(f"  {each}" for each in error.wrong), sep="\n", file=sys.stderr)
        return FAILED
    return DONE


# ---- reading


def _document(file: str) -> object:
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
        value, double_keys = parse(text)
    except OSError as error:
        raise _CannotImport(f"{file}: no readable file: {error.strerror}") from None
    except ValueError:
        raise _CannotImport(f"{file}: this is not UTF-8 text") from None
    except InvalidValue as error:
        raise _CannotImport(f"{file}: {error.errors[0].found}") from None
    for double in double_keys:
        raise _CannotImport(f"{file}: {double.path}: {double.found}; allowed: {double.allowed}")
    return value


def _section(document: object, wanted: str | None) -> tuple[str, object]:
    """The section's name and body. Raises _CannotImport."""
    if not isinstance(document, Mapping):
        raise _CannotImport("this is no YAML mapping: give a Collector's configuration, or the body of its section")
    processors = document.get("processors", document)
    if not isinstance(processors, Mapping):
        raise _CannotImport("processors is no mapping, so it has no tail_sampling section")
    found = {str(name): body for name, body in processors.items() if str(name).partition("/")[0] == _TYPE}
    if not found and processors is document and (not document or document.keys() & set(KEYS)):
        return "the section", document
    if wanted is not None:
        wanted = wanted if wanted.partition("/")[0] == _TYPE else f"{_TYPE}/{wanted}"
        found = {name: body for name, body in found.items() if name == wanted}
    if len(found) != 1:
        names = ", ".join(found) or "none"
        advice = "choose one with --processor" if found else "look for processors, tail_sampling in your files"
        raise _CannotImport(f"one tail_sampling section is needed; found: {names}; {advice}")
    ((name, body),) = found.items()
    return name, body


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


def written(plan: Plan, source: str) -> Iterator[str]:
    """The lines of the YAML."""
    yield from _comment(f"Written by `tss import otel` from {source}.")
    yield from _comment("Comments that begin with `Differs` say where the verdicts are not the Collector's.")
    yield ""
    yield "sampling:"
    yield "  policies:"
    translated = translate(plan)
    for each in translated:
        yield from _policy(each)
    if all(each.when is False for each in translated):
        yield from _comment("No policy matches any trace, so this one keeps none.", 4)
        yield "    - {name: nothing, keep: 0}"
    yield ""
    yield from _waits(plan)
    for note in plan.notes:
        if not note.path.startswith("policies["):
            yield from _comment(f"{note.path}: {note.text}.")


def _policy(of: Translated) -> Iterator[str]:
    yield from _comment(f"{of.path}: {of.name}", 4)
    for remark in of.remarks:
        yield from _comment(f"{remark[:1].upper()}{remark[1:].removesuffix('.')}.", 4)
    if of.when is False:
        yield from _comment("It matches no trace, so it is left out.", 4)
        return
    for line in dump([of.plain]).splitlines():
        yield f"    {line}"


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
    yield from textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False)
