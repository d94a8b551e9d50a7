"""The deployment guide's troubleshooting cases, provoked: what the daemon says is what the guide tells to look for."""

from __future__ import annotations

from pathlib import Path

from tests.real import redis_server
from tests.real.brokers import HOST, Tansu, free_ports
from tests.real.daemon import Daemon, settings, until
from tests.real.test_lifecycle import make_world, some_traces
from tests.sinks import DatadogIntakeSink, Reply


def health_of(daemon: Daemon) -> str:
    return str(daemon.health())


def test_1_connection_refused_to_kafka(tmp_path: Path) -> None:
    config = settings(f"{HOST}:{free_ports(1)[0]}", "traces")
    config["exporters"] = [{"name": "file", "type": "file", "path": str(tmp_path / "kept.jsonl")}]
    with Daemon(tmp_path / "daemon", config) as daemon:
        until(lambda: daemon.said("Failed to connect to Kafka"), 20, daemon.tail)
        assert daemon.get("/health/live")[0] == 200 and daemon.get("/health/ready")[0] == 503
        assert "refused" in health_of(daemon)
        assert daemon.metric("tss_ready") == 0
        assert daemon.running, "it goes on trying"


def test_2_redis_connection_timeout(tansu: Tansu, tmp_path: Path) -> None:
    with redis_server.running() as server:
        server.freeze()
        place = make_world(tansu, tmp_path, redis={"url": server.url, "connectionTimeoutSecs": 0.5})
        with place.daemon as daemon:
            until(lambda: daemon.said("Redis connection timeout"), 20, daemon.tail)
            daemon.ready()
            assert daemon.health()["status"] == "degraded"
            assert "Redis connection timeout" in health_of(daemon)
            assert daemon.said("Redis connection timeout")[0]["check"].startswith("check redis.url, redis.password")


def test_3_datadog_api_unauthorized(tansu: Tansu, tmp_path: Path) -> None:
    with DatadogIntakeSink() as intake:
        intake.usual = Reply(401, {"Content-Type": "text/plain"}, b"no such key")
        datadog = {"apiKey": "wrong", "intakeUrl": intake.url, "batchTimeoutSecs": 0.1, "stats": False}
        place = make_world(tansu, tmp_path, exporters=[], datadog=datadog)
        place.send(*some_traces(3))
        with place.daemon as daemon:
            until(lambda: "401 Unauthorized" in daemon.get("/health/ready")[1], 20, daemon.tail)
            assert daemon.get("/health/ready")[0] == 503
            assert daemon.said("destination did not take a batch")
            assert daemon.metric("traces_sampled_total") == 0, "held, not dropped"
