"""`python -m tss release`: what one replica holds since a destination refused it goes to the dead letters."""

from __future__ import annotations

import argparse
import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence

from tss.admin_client import DONE, REFUSED, Replica, Trouble, options, tell_trouble, token


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Do what is asked; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m tss release",
        parents=[options()],
        description="Put what a destination has refused, and what this replica therefore holds, among the dead letters, so that "
        "the rest goes on. Each replica holds its own: ask all of them.",
    )
    parser.add_argument("exporter", help="its name in the settings, as /health shows it")
    given = parser.parse_args(arguments)
    try:
        replica = Replica(given.url, token(given.config, environ), given.proxy)
        traces = _release(replica, given.exporter)
    except Trouble as trouble:
        tell_trouble("tss release", trouble)
        return REFUSED
    if given.json:
        print(json.dumps({"exporter": given.exporter, "released": traces}, indent=2))
    else:
        print(f"{given.exporter}: {traces} traces go to the dead letters")
    return DONE


def _release(replica: Replica, exporter: str) -> int:
    status, found = replica.request("POST", f"/admin/exporters/{urllib.parse.quote(exporter, safe='')}/release")
    traces = found.get("released") if isinstance(found, dict) else None
    if not isinstance(traces, int):
        raise replica.stranger(status, "no number of traces")
    return traces
