"""Policies changed while real daemons run: by signal, by file, by request, and back again."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.brokers import Broker
from tests.real.daemon import Daemon, daemons, file_spans, until
from tests.real.redis_server import RedisServer, running
from tests.real.test_lifecycle import World, make_world, some_traces, spans
from tss.__main__ import main

TOKEN_VARIABLE = "TSS_FORCE_SAMPLING_ADMIN_TOKEN"
ENVIRONMENT = {TOKEN_VARIABLE: "for-the-tests-alone"}
SEES_SECS = 10.0  # the file is looked at once a second, and must be the same twice
_seeds = itertools.count(300)

KEEP = {
    "defaultSampleRate": 1, "alwaysSampleErrors": False, "sampleLatency": False, "latencyThresholdMs": 1000,
    "latencySampleRate": 0.5,
}  # fmt: skip
DROP = KEEP | {"defaultSampleRate": 0}


def fingerprint(daemon: Daemon) -> str:
    return str(daemon.health()["components"]["policies"]["fingerprint"])


def policies(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.health()["components"]["policies"])


def reloads(daemon: Daemon, source: str, outcome: str) -> float:
    return daemon.metric("reloads_total", source=source, outcome=outcome)


def acts(world: World, daemon: Daemon, verdict: str) -> None:
    """Send ten traces at a time until all of them get this verdict: a change begins at a later second of the topic."""

    def all_get_it() -> bool:
        before = daemon.metric("decisions_total", verdict=verdict), daemon.metric("decisions_total")
        world.send(*some_traces(next(_seeds), errors=False)[:10])
        until(lambda: daemon.metric("decisions_total") >= before[1] + 10, 20, daemon.tail)
        return daemon.metric("decisions_total", verdict=verdict) == before[0] + 10

    until(all_get_it, 30, daemon.tail)


def admin(
    daemon: Daemon, method: str, path: str, document: object = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    try:
        bearer = {"Authorization": f"Bearer {ENVIRONMENT[TOKEN_VARIABLE]}"}
        connection.request(
            method, f"/admin/policies{path}", json.dumps(document) if document is not None else None, bearer | headers
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


# -- one daemon, without Redis


def test_one_daemon_takes_up_its_file_by_signal_and_by_itself(tansu: Broker, tmp_path: Path) -> None:
    """Its process, its open traces and its group membership stay. A wrong file changes nothing, and is told."""
    world = make_world(tansu, tmp_path, app={"rootQuietSecs": 0.2}, sampling=DROP)
    daemon = Daemon(tmp_path / "daemon", world.config, ENVIRONMENT)
    path = daemon.directory / "tss.yaml"

    def write(sampling: Mapping[str, object], **sections: object) -> None:
        beside = path.with_name("new.yaml")
        beside.write_text(yaml.safe_dump(world.config | {"sampling": sampling} | sections))
        beside.replace(path)

    with daemon:
        daemon.ready()
        first = fingerprint(daemon)
        acts(world, daemon, "drop")
        assert file_spans(world.kept) == []
        write(KEEP)
        daemon.signal(signal.SIGHUP)
        until(lambda: fingerprint(daemon) != first, SEES_SECS, daemon.tail)
        acts(world, daemon, "keep")
        (line,) = daemon.said("policies changed")
        assert line["source"] == "signal" and line["changes"] == ["defaultSampleRate: 0 -> 1"]
        # Wrong: told in /health, in the log and by the counter; the old policies go on.
        write({"defaultSampleRate": 7})
        until(lambda: reloads(daemon, "file", "refused") == 1, SEES_SECS, daemon.tail)
        assert daemon.health()["status"] == "degraded" and daemon.is_ready
        assert "sampling.defaultSampleRate" in policies(daemon)["detail"]
        acts(world, daemon, "keep")
        # Right again, with the log level and what needs a restart.
        write(
            DROP,
            observability=world.config["observability"] | {"logLevel": "debug"},
            redis={"url": "redis://127.0.0.1:9"},
        )
        until(lambda: reloads(daemon, "file", "accepted") == 1, SEES_SECS, daemon.tail)
        assert daemon.health()["status"] == "ok" and fingerprint(daemon) == first
        assert daemon.said("needs a restart: redis.url") and policies(daemon)["needs_restart"] == "redis.url"
        acts(world, daemon, "drop")
        until(lambda: any(line["level"] == "debug" for line in daemon.log), 5)
        status, answer = admin(daemon, "PUT", "", KEEP)
        assert status == 409 and "set redis.url" in answer["error"]
        assert daemon.runs == 1
        daemon.stop()


def test_a_swapped_config_map_reaches_the_daemon(tansu: Broker, tmp_path: Path) -> None:
    """The kubelet replaces the link `..data`; the file's own link never changes."""
    world = make_world(tansu, tmp_path, app={"rootQuietSecs": 0.2, "stateDir": str(tmp_path)}, sampling=DROP)
    daemon = Daemon(tmp_path / "daemon", world.config)
    for name, sampling in (("..one", DROP), ("..two", KEEP)):
        (daemon.directory / name).mkdir()
        (daemon.directory / name / "tss.yaml").write_text(yaml.safe_dump(world.config | {"sampling": sampling}))
    (daemon.directory / "..data").symlink_to("..one")
    (daemon.directory / "tss.yaml").symlink_to("..data/tss.yaml")
    with daemon:
        daemon.ready()
        (daemon.directory / "..new").symlink_to("..two")
        (daemon.directory / "..new").replace(daemon.directory / "..data")
        until(lambda: reloads(daemon, "file", "accepted") == 1, SEES_SECS, daemon.tail)
        acts(world, daemon, "keep")
        daemon.stop()
        # What was before is known after a restart, although no Redis has it.
        daemon.config = world.config | {"sampling": KEEP}
        daemon.start()
        daemon.ready()
        assert policies(daemon)["revision"] == 2
        assert len(json.loads((tmp_path / "policies.json").read_text())["texts"]) == 2
        daemon.stop()


def test_a_signal_in_the_middle_of_traffic_loses_nothing(tansu: Broker, tmp_path: Path) -> None:
    """Twenty reloads while traces are read; all are kept by every set of policies, so all must arrive, once."""
    world = make_world(tansu, tmp_path, app={"rootQuietSecs": 0.2}, sampling=KEEP)
    daemon = Daemon(tmp_path / "daemon", world.config)
    path = daemon.directory / "tss.yaml"
    with daemon, world.group() as group:
        daemon.ready()
        traces = some_traces(next(_seeds), errors=False)
        for number, trace in enumerate(traces[:200]):
            world.send(trace)
            if number % 10 == 0:
                sampling = KEEP | {"policies": [{"name": f"all-{number}", "keep": 1, "when": {"latency": ">= 0s"}}]}
                path.write_text(yaml.safe_dump(world.config | {"sampling": sampling}))
                daemon.signal(signal.SIGHUP)
        until(lambda: reloads(daemon, "signal", "accepted") > 1, 10, daemon.tail)
        group.wait_until_done(30, daemon.tail, {0: world.sent})
        found = file_spans(world.kept, written=False)
        assert len(found) == len(set(found)) and set(found) == spans(traces[:200])
        daemon.stop()


# -- three daemons and Redis


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


def three(tansu: Broker, redis: RedisServer, tmp_path: Path) -> list[Daemon]:
    """One reads the topic; the others have no partition of it. All have the same file."""
    world = make_world(
        tansu, tmp_path, redis={"url": redis.url, "connectionTimeoutSecs": 1}, app={"rootQuietSecs": 0.2}, sampling=DROP
    )
    configs = [world.config | {"app": world.config["app"] | {"instanceId": f"replica-{number}"}} for number in range(3)]
    return [Daemon(tmp_path / f"replica-{number}", config, ENVIRONMENT) for number, config in enumerate(configs)]


def started(all_three: list[Daemon]) -> None:
    for each in all_three:
        each.start()
    for each in all_three:
        until(lambda each=each: each.port and each.get("/health")[0] == 200, 30, each.tail)  # type: ignore[misc]
    until(lambda: any(each.is_ready for each in all_three), 30, all_three[0].tail)


def all_at(all_three: list[Daemon], revision: int) -> None:
    """Until all are at this revision, and have the same policies."""

    def agreed() -> bool:
        told = [policies(each) for each in all_three]
        return {each["revision"] for each in told} == {revision} and len({each["fingerprint"] for each in told}) == 1

    until(agreed, 15, lambda: [policies(each) for each in all_three])


def test_a_request_to_one_of_three_changes_all_and_survives_all(
    tansu: Broker, redis: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    all_three = three(tansu, redis, tmp_path)
    draft = tmp_path / "policies.yaml"
    draft.write_text(yaml.safe_dump(KEEP))

    def tss(daemon: Daemon, *words: str) -> str:
        code = main(["policies", *words, "--url", f"http://127.0.0.1:{daemon.port}", "--as", "anna"], ENVIRONMENT)
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    with daemons(*all_three):
        started(all_three)
        all_at(all_three, 1)
        assert "defaultSampleRate: 0 -> 1" in tss(all_three[1], "diff", str(draft))
        assert "in force: revision 2" in tss(all_three[1], "apply", str(draft))
        all_at(all_three, 2)
        for each in all_three:
            (line,) = each.said("policies changed")
            assert line["who"] == "anna (127.0.0.1)" and line["changes"] == ["defaultSampleRate: 0 -> 1"]
        # Of two changes to one revision one is refused.
        assert admin(all_three[0], "PUT", "", DROP, **{"If-Match": '"1"'})[0] == 412
        # A restart of all; the file has not changed, so the request's policies stay.
        for each in all_three:
            each.kill()
        started(all_three)
        all_at(all_three, 2)
        reader = next(each for each in all_three if each.is_ready)
        assert "the settings file has other, older policies" in tss(reader, "show")
        # Redis away: told, refused, and followed again afterwards. Redis keeps nothing here, so it is written again.
        redis.kill()
        status, answer = admin(all_three[0], "PUT", "", DROP)
        assert status == 503, answer
        until(lambda: all_three[2].health()["components"]["policies"]["state"] == "degraded", 20, all_three[2].tail)
        redis.start()
        until(lambda: all(each.health()["components"]["policies"]["state"] == "up" for each in all_three), 30)
        assert "in force: revision 3" in tss(all_three[2], "rollback", "1")
        all_at(all_three, 3)
        assert [line.split()[1] for line in tss(all_three[0], "history").splitlines()] == ["3", "2", "1"]
        # A file that is changed now is newer than all of that.
        path = all_three[1].directory / "tss.yaml"
        path.write_text(yaml.safe_dump(dict(all_three[1].config) | {"sampling": KEEP | {"defaultSampleRate": 0.5}}))
        all_at(all_three, 4)
        assert [line["changes"] for line in all_three[1].said("policies changed") if line["source"] == "file"] == [
            ["defaultSampleRate: 0 -> 0.5"]
        ]
        for each in all_three:
            each.stop()
