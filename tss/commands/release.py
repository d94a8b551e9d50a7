"""`tss release`: what one replica holds because an exporter's backend refused it goes to the dead letters."""

from __future__ import annotations

import argparse
import json
import urllib.parse
from collections.abc import Mapping

from tss.commands import DONE, FAILED
from tss.commands.admin import Replica, Trouble, add_shared_options, tell_trouble, token

DESCRIPTION = """\
Send the traces that an exporter's backend refused, and that this replica therefore holds, to the dead letters. Then
the replica goes on with the other traces. Each replica holds its own traces: run this for all of them.
"""
EPILOG = """\
example:
  %(prog)s backend --url http://127.0.0.1:8080

The token comes from $TSS_FORCE_SAMPLING_ADMIN_TOKEN or from the settings.

exit codes: 0 done; 1 the replica refused or did not answer; 2 a wrong command line
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("exporter", help="its name in the settings, as /health shows it")
    add_shared_options(parser)


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask the replica; returns the exit code."""
    try:
        replica = Replica(options.url, token(options.config, environ), options.proxy)
        traces = _release(replica, options.exporter)
    except Trouble as trouble:
        tell_trouble("tss release", trouble)
        return FAILED
    if options.json:
        print(json.dumps({"exporter": options.exporter, "released": traces}, indent=2))
    else:
        print(f"{options.exporter}: {traces} traces go to the dead letters")
    return DONE


def _release(replica: Replica, exporter: str) -> int:
    status, found = replica.request("POST", f"/admin/exporters/{urllib.parse.quote(exporter, safe='')}/release")
    traces = found.get("released") if isinstance(found, dict) else None
    if not isinstance(traces, int):
        raise replica.stranger(status, "no number of traces")
    return traces
