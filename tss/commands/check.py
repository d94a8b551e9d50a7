"""`tss check`: whether the settings are sound, and which ones are in force."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from tss.commands import DONE, FAILED, WRONG_USE
from tss.commands.check_summary import differences, document, in_force
from tss.commands.check_warnings import warnings
from tss.commands.config import add_config, path_of, settings_of
from tss.core.errors import WrongSetting
from tss.edges import preflight
from tss.settings import Settings, SettingsError, render

DESCRIPTION = """\
Check the settings without starting the daemon. It prints which settings are in force, which differ from the defaults,
and warnings about values that are allowed and hardly ever meant. Secrets are masked.
"""
EPILOG = """\
examples:
  %(prog)s --config tss.yaml             the file and the environment
  %(prog)s --config tss.yaml --connect   and ask Kafka, Redis and the destinations
  %(prog)s --config - < tss.yaml         from stdin
  %(prog)s --config tss.yaml --all       every setting, as YAML

exit codes: 0 the settings are sound, with or without warnings; 1 with --connect: something does not answer as it should;
2 the settings are wrong, and all errors are listed
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_config(parser)
    parser.add_argument("--all", action="store_true", help="print every setting with its value, as YAML")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument(
        "--connect",
        action="store_true",
        help="connect to Kafka, Redis and each destination, and say which of them answer; takes up to 20 s",
    )


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check and report; returns the exit code."""
    places: dict[str, int] = {}
    try:
        settings = settings_of(options, environ, places=places)
        preflight.check(settings)
    except (SettingsError, WrongSetting) as error:
        _tell_errors(error, as_json=options.json)
        return WRONG_USE
    findings = preflight.ask(settings) if options.connect else []
    if options.json:
        _print_json(settings, places, findings, everything=options.all)
    elif options.all:
        print(render(settings), end="")
        _print_findings(findings)
    else:
        _print_words(settings, places, path_of(options, environ))
        _print_findings(findings)
    return DONE if all(each.ok for each in findings) else FAILED


def _tell_errors(error: SettingsError | WrongSetting, *, as_json: bool) -> None:
    print(error, file=sys.stderr)
    if as_json:
        found = [str(each) for each in error.errors] if isinstance(error, SettingsError) else [str(error)]
        print(json.dumps({"sound": False, "errors": found}, indent=2))


def _print_json(
    settings: Settings, places: Mapping[str, int], findings: Sequence[preflight.Finding], *, everything: bool
) -> None:
    shown: dict[str, object] = {
        "sound": True,
        "inForce": in_force(settings),
        "differences": [
            {"key": each.key, "value": each.value, "default": each.default} for each in differences(settings)
        ],
        "warnings": [
            {"key": each.key, "line": each.line or None, "text": each.text} for each in warnings(settings, places)
        ],
    }
    if everything:
        shown["settings"] = document(settings)
    if findings:
        shown["answers"] = [{"asked": each.asked, "ok": each.ok, "text": each.text} for each in findings]
    print(json.dumps(shown, indent=2))


def _print_words(settings: Settings, places: Mapping[str, int], path: str | None) -> None:
    print(f"The settings are sound ({f'{path} and the environment' if path else 'from the environment'}).\n")
    subjects = in_force(settings)
    wide = max(map(len, subjects)) + 2
    for subject, sentences in subjects.items():
        for number, sentence in enumerate(sentences):
            print(f"{'' if number else subject:<{wide}}{sentence}")
    _print_list("Differs from the defaults:", [str(each) for each in differences(settings)])
    _print_list("Warnings:", [str(each) for each in warnings(settings, places)])


def _print_list(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"\n{title}")
    for line in lines:
        print(f"  {line}")


def _print_findings(findings: Sequence[preflight.Finding]) -> None:
    _print_list(
        "Answers, as asked from this machine:",
        [f"{'OK ' if each.ok else 'NOT'} {each.asked}: {each.text}" for each in findings],
    )
