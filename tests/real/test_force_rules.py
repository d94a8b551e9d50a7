"""Force rules with real daemons: made on one by the command line, enforced on the other, and gone with their time."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.real.brokers import ROOT, Broker
from tests.real.daemon import Daemon, Group, daemons, file_spans, until
from tests.real.redis_server import RedisServer, running
from tests.real.test_lifecycle import World, make_world, some_traces, spans
from tss.__main__ import main

TOKEN_VARIABLE = "TSS_FORCE_SAMPLING_ADMIN_TOKEN"
ENVIRONMENT = {TOKEN_VARIABLE: "for-the-tests-alone"}
SPREAD_SECS = 0.1
STOP_SECS = 5.0  # Redis takes nothing of it
_seeds = itertools.count(100)
Cli = Callable[..., tuple[int, str, str]]


@attrs.define
class Two:
    """One daemon reads; the other has no partition, and is where rules are made."""

    world: World
    reader: Daemon
    other: Daemon
    group: Group

    def url(self, daemon: Daemon) -> str:
        return f"http://127.0.0.1:{daemon.port}"

    def send(self, *, errors: bool) -> set[tuple[bytes, bytes]]:
        """Ten traces; returns once they are decided and delivered."""
        traces = some_traces(next(_seeds), errors=errors)[:10]
        self.world.send(*traces)
        # Committed is what is delivered (law 1); Tansu names the topic's end too low, so it is counted here.
        self.group.wait_until_done(20, self.reader.tail, {0: self.world.sent})
        return spans(traces)

    def kept(self) -> set[tuple[bytes, bytes]]:
        return set(file_spans(self.world.kept))


@pytest.fixture(scope="module")
def both(tansu: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with running() as redis:
        yield from _both(tansu, redis, tmp_path_factory.mktemp("force"))


def _both(tansu: Broker, redis: RedisServer, tmp_path: Path) -> Iterator[Two]:
    world = make_world(tansu, tmp_path, redis={"url": redis.url}, app={"rootQuietSecs": 0.2})
    reader = Daemon(tmp_path / "reader", world.config, ENVIRONMENT)
    # No partition can be read twice in a group; another group would read all of it, too, so it waits on an empty topic.
    idle = make_world(tansu, tmp_path / "idle", redis={"url": redis.url})
    idle.config["kafka"]["consumerGroup"] = world.config["kafka"]["consumerGroup"]
    other = Daemon(tmp_path / "other", idle.config, ENVIRONMENT)
    with daemons(reader, other), world.group() as group:
        reader.start()
        other.start()
        reader.ready()
        until(lambda: other.port and other.get("/health")[0] == 200, 20, other.tail)
        yield Two(world, reader, other, group)
        assert reader.stop() < STOP_SECS


@pytest.fixture
def two(both: Two, cli: Cli) -> Two:
    """Without the rules of other tests."""
    for rule in rules_of(both.other):
        assert cli("remove", rule["id"], "--url", both.url(both.other))[0] == 0
    until(lambda: not rules_of(both.reader), 5)
    return both


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["force", *words], ENVIRONMENT)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def rules_of(daemon: Daemon) -> list[dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    try:
        bearer = {"Authorization": f"Bearer {ENVIRONMENT[TOKEN_VARIABLE]}"}
        connection.request("GET", "/admin/force-rules", headers=bearer)
        return list(json.loads(connection.getresponse().read())["rules"])
    finally:
        connection.close()


def test_a_rule_made_on_one_is_enforced_on_the_other(two: Two, cli: Cli) -> None:
    at = ("--url", two.url(two.other))
    lost = two.send(errors=False)
    everything = "--match", "resource:service.name exists", "--match", "span:http.route neq none at all"
    code, _, error = cli("add", "keep all", "--keep", *everything, "--for", "1h", *at)
    assert code == 0, error
    until(lambda: rules_of(two.reader), 5)
    kept = two.send(errors=False)
    assert two.kept() == kept and not kept & lost
    assert two.reader.metric("decisions_total", policy="force", verdict="keep") == 10
    assert two.reader.metric("force_decisions_total", rule="keep all", verdict="keep") == 10
    # What drops goes first, as its priority says.
    assert cli("add", "drop errors", "--drop", "--match", "status eq error", "--priority", "5", *at)[0] == 0
    until(lambda: len(rules_of(two.reader)) == 2, 5)
    two.send(errors=True)
    assert two.kept() == kept
    assert two.reader.metric("force_decisions_total", rule="drop errors", verdict="drop") == 10
    # And what is over, or off, does nothing.
    assert cli("remove", "drop errors", *at)[0] == 0
    assert cli("disable", "keep all", *at)[0] == 0
    until(lambda: [rule["enabled"] for rule in rules_of(two.reader)] == [False], 5)
    two.send(errors=False)
    errors = two.send(errors=True)
    assert two.kept() == kept | errors


def test_a_rule_is_known_on_the_other_daemon_within_a_tenth_of_a_second(two: Two, cli: Cli) -> None:
    """Asked over HTTP, which takes a few ms of it."""
    took = []
    for number in range(20):
        name = f"rule {number}"
        began = time.perf_counter()
        assert cli("add", name, "--keep", "--match", "name eq x", "--url", two.url(two.other))[0] == 0
        until(lambda name=name: name in {rule["name"] for rule in rules_of(two.reader)}, 5)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
    took.sort()
    print(f"\nfrom the command to the other replica: median {took[10] * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms")
    assert took[10] < SPREAD_SECS  # half of them: making a connection and answering wait for a busy machine, too


def test_the_command_line(two: Two, cli: Cli) -> None:
    at = ("--url", two.url(two.other))
    assert cli("list", *at)[1] == "no rules\n"
    code, said, _ = cli("add", "one", "--keep", "--match", "span:http.status_code in 500, 503", "--until",
                        "2099-01-01T00:00:00Z", *at)  # fmt: skip
    assert code == 1 and said == ""
    code, said, _ = cli(
        "add", "one", "--keep", "--match", "span:http.status_code in 500, 503", "--for", "30m", "--json", *at
    )
    made = json.loads(said)
    assert code == 0 and made["matchers"] == [
        {"on": "span", "key": "http.status_code", "op": "in", "value": [500, 503]}
    ]
    code, _, error = cli("add", "one", "--drop", "--match", "nmae eq x", *at)
    assert code == 1 and "matchers[0].on: must be one of resource, span, name, kind, status" in error
    code, said, _ = cli("update", "one", "--drop", "--description", "too many", "--priority", "7", "--json", *at)
    changed = json.loads(said)
    assert changed == made | {"action": "drop", "description": "too many", "priority": 7, "revision": 2}
    code, said, _ = cli("extend", made["id"], "--for", "1h", *at)
    assert code == 0 and "drop  one" in said and "span:http.status_code in [500, 503]" in said
    assert json.loads(cli("disable", "one", "--json", *at)[1])["enabled"] is False
    assert ", off)" in cli("show", "one", *at)[1]
    assert cli("enable", "one", *at)[0] == 0
    assert cli("remove", "one", *at)[1] == f"removed {made['id']}\n"
    code, _, error = cli("show", "one", *at)
    assert code == 1 and "no rule with the id or name 'one'" in error
    wrong = main(["force", "list", *at], {TOKEN_VARIABLE: "another token of ours"})
    assert wrong == 1
    code, _, error = cli("list", "--url", "http://127.0.0.1:9")
    assert code == 1 and "no answer from http://127.0.0.1:9" in error


def test_every_example_of_the_page_works_as_it_stands(two: Two, tmp_path: Path) -> None:
    """All of `sh` in docs/force-rules.md, one after the other, as pasted."""
    page = (ROOT / "docs/force-rules.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    script = "set -e\n" + "\n".join(blocks)
    script = script.replace("http://127.0.0.1:8080", two.url(two.other)).replace(
        "python -m tss", f"{shlex.quote(sys.executable)} -m tss"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TOKEN": ENVIRONMENT[TOKEN_VARIABLE],
    } | ENVIRONMENT
    done = subprocess.run(
        ["sh", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "error" not in json.dumps(done.stdout.splitlines()), done.stdout
    assert rules_of(two.other) == []
