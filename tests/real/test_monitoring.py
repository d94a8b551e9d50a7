"""The alerts, the dashboard and the runbook, by promtool and a Prometheus that scrapes a live daemon."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.dashboard import ROWS
from tests.real.brokers import ROOT, Tansu
from tests.real.daemon import until
from tests.real.prometheus import Prometheus, promtool
from tests.real.redis_server import RedisServer
from tests.real.test_lifecycle import make_world, some_traces
from tss.core.measures import TABLE, MetricType

FILES = ROOT / "helm-charts" / "tail-sampling-selector" / "files"
ALERTS = FILES / "alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
PANELS = {
    f"{panel.title}: {legend}": query
    for row in ROWS.values()
    for panel in row
    for legend, query in panel.queries.items()
}

ALL_NAN, ALL_INF = " ".join(["NaN"] * 41), " ".join(["Inf"] * 41)
# By alert: series (of a value a minute) in which it fires after half an hour, and those in which it does not.
WORLDS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "TSSHighConsumerLag": ({"kafka_consumer_lag": "1001x40"}, {"kafka_consumer_lag": "1000x40"}),
    "TSSBufferFull": (
        {"buffer_traces_current": "81x40", "buffer_traces_limit": "100x40"},
        {"buffer_traces_current": "80x40", "buffer_traces_limit": "100x40"},
    ),
    "TSSExportFailures": (
        {'export_errors_total{destination="a",reason="timeout"}': "0+1x40"},
        {'export_errors_total{destination="a",reason="timeout"}': "7x40"},
    ),
    "TSSDestinationDown": (
        # Down from the twentieth minute on, and up again and again.
        {'exporter_down_seconds{instance="i",destination="a"}': "0x20 0+60x20"},
        {'exporter_down_seconds{instance="i",destination="a"}': "0x20 0 100 200 300 0 300 200 300 0 300 200 300"},
    ),
    "TSSNotReady": ({"tss_ready": "0x40"}, {"tss_ready": "0x4 1x36"}),
    "TSSNotReading": (
        {
            'kafka_consumer_lag{instance="i",partition="1"}': "5x40",
            'kafka_records_read_total{instance="i"}': "100x40",
        },
        {
            'kafka_consumer_lag{instance="i",partition="1"}': "5x40",
            'kafka_records_read_total{instance="i"}': "0+1x40",
        },
    ),
    "TSSRecordsLost": (
        # It is there with the loss in it from its first scrape on.
        {'kafka_records_lost_total{instance="i",topic="t",partition="1"}': "_x20 5x20"},
        {'kafka_records_lost_total{instance="i",topic="t",partition="1"}': "0x40"},
    ),
    "TSSRetentionNear": (
        {
            'kafka_oldest_uncommitted_age_seconds{instance="i",topic="t",partition="0"}': ALL_NAN,
            'kafka_oldest_uncommitted_age_seconds{instance="i",topic="t",partition="1"}': "43000+60x40",
            'kafka_retention_seconds{instance="i",topic="t"}': "86400x40",
        },
        {
            'kafka_oldest_uncommitted_age_seconds{instance="i",topic="t",partition="1"}': "43200x40",
            'kafka_retention_seconds{instance="i",topic="t"}': "86400x40",
            # For ever, and not known.
            'kafka_oldest_uncommitted_age_seconds{instance="i",topic="u",partition="1"}': "1e9x40",
            'kafka_retention_seconds{instance="i",topic="u"}': ALL_INF,
            'kafka_oldest_uncommitted_age_seconds{instance="i",topic="v",partition="1"}': "1e9x40",
            'kafka_retention_seconds{instance="i",topic="v"}': ALL_NAN,
        },
    ),
    "TSSRetentionSizeNear": (
        {
            'kafka_deletion_headroom_records{instance="i",topic="t",partition="1"}': "6000-100x40",
            'kafka_uncommitted_records{instance="i",topic="t",partition="1"}': "5000x40",
            'kafka_consumer_lag{instance="i",topic="t",partition="1"}': "1000+100x40",
            'kafka_retention_bytes{instance="i",topic="t"}': "1e9x40",
        },
        {
            # A young topic, of which nothing has been deleted yet, and one that has no such limit.
            'kafka_deletion_headroom_records{instance="i",topic="t",partition="1"}': "100+1x40",
            'kafka_uncommitted_records{instance="i",topic="t",partition="1"}': "5000x40",
            'kafka_consumer_lag{instance="i",topic="t",partition="1"}': "1000+100x40",
            'kafka_retention_bytes{instance="i",topic="t"}': "1e9x40",
            'kafka_deletion_headroom_records{instance="i",topic="u",partition="1"}': "6000-100x40",
            'kafka_uncommitted_records{instance="i",topic="u",partition="1"}': "5000x40",
            'kafka_consumer_lag{instance="i",topic="u",partition="1"}': "1000+100x40",
            'kafka_retention_bytes{instance="i",topic="u"}': ALL_INF,
        },
    ),
    "TSSReadingPaused": ({"backpressure_paused": "1x40"}, {"backpressure_paused": "0 0 1 0x3 1 0x40"}),
    "TSSAbsent": ({"up": "1x40"}, {"tss_build_info": "1x40"}),
    "TSSRestarting": (
        {'process_start_time_seconds{instance="i"}': "0+60x40", 'tss_build_info{instance="i"}': "1x40"},
        # Another program's, on whatever instance.
        {'process_start_time_seconds{instance="other"}': "0+60x40", 'tss_build_info{instance="i"}': "1x40"},
    ),
    "TSSDecidedUnderPressure": (
        {'decisions_total{reason="pressure"}': "0+1x40"},
        {'decisions_total{reason="root_quiet"}': "0+1x40"},
    ),
    "TSSDeadLetters": ({'dead_letters_total{reason="otlp"}': "0+1x40"}, {'dead_letters_total{reason="otlp"}': "3x40"}),
    "TSSSpansRejected": ({"export_rejected_spans_total": "0+1x40"}, {"export_rejected_spans_total": "3x40"}),
    "TSSCommitsFailing": (
        {'kafka_commits_total{result="failed"}': "0+1x40"},
        {'kafka_commits_total{result="committed"}': "0+1x40"},
    ),
    "TSSRedisAway": ({"redis_up": "0x40"}, {"redis_up": "1x40"}),
    "TSSDegraded": (
        {'component_degraded{component="dead letters"}': "0x10 1x30", 'component_degraded{component="kafka"}': "0x40"},
        {'component_degraded{component="dead letters"}': "0x40", 'component_degraded{component="redis"}': "1x40"},
    ),
    "TSSInputNotKeyed": (
        {
            "kafka_unkeyed_records_total": "0+1x40",
            "kafka_split_traces_total": "0x40",
            "traces_on_two_partitions_total": "0x40",
        },
        {
            "kafka_unkeyed_records_total": "4x40",
            "kafka_split_traces_total": "0x40",
            "traces_on_two_partitions_total": "0x40",
        },
    ),
    "TSSClockAhead": (
        {"stream_time_ahead_seconds": "290x40"},
        {"stream_time_ahead_seconds": "0x29 11 0x9"},  # one that was corrected at once
    ),
}


def world(alert: str, series: dict[str, str], firing: bool) -> dict[str, Any]:
    return {
        "name": f"{alert} {firing}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": "30m",
                "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
            }
        ],
    }


def names(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    bare = re.sub(r"\{[^}]*\}|\boffset \w+|\bInf\b", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right) *\([^)]*\)", "", bare)
    words = re.findall(r"[a-z_][a-z_0-9]*(?! *\()\b", bare)
    return {word for word in words if word not in {"and", "or", "unless", "by", "on"}}


SERIES = {measure.name for measure in TABLE if measure.kind is not MetricType.HISTOGRAM} | {
    f"{measure.name}{end}"
    for measure in TABLE
    if measure.kind is MetricType.HISTOGRAM
    for end in ("_bucket", "_sum", "_count")
}
# Of prometheus-client itself.
PROCESS = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}


@pytest.mark.debian
def test_promtool_finds_nothing_to_say_of_the_rules() -> None:
    done = promtool("check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.debian
def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert WORLDS.keys() == RULES.keys()
    tests = [
        world(alert, series, firing)
        for alert, (fires, silent) in WORLDS.items()
        for series, firing in ((fires, True), (silent, False))
    ]
    file = tmp_path / "alerts_test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("alert", "severity", "lasts"), [
    ("TSSHighConsumerLag", "warning", "5m"), ("TSSBufferFull", "critical", "5m"), ("TSSExportFailures", "critical", "1m"),
])  # fmt: skip
def test_the_guides_alerts_are_as_it_gives_them(alert: str, severity: str, lasts: str) -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    rule = RULES[alert]
    assert f"- alert: {alert}\n          expr: {rule['expr']}\n          for: {lasts}\n" in guide
    assert (rule["for"], rule["labels"]["severity"]) == (lasts, severity)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_asks_for_what_the_daemon_has(rule: dict[str, Any]) -> None:
    assert names(rule["expr"]) and names(rule["expr"]) <= SERIES | PROCESS


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_for_what_the_daemon_has(panel: str) -> None:
    assert names(PANELS[panel]) and names(PANELS[panel]) <= SERIES | PROCESS


def test_the_names_are_really_looked_at() -> None:
    assert names('sum by (a, b) (rate(gone_total{reason="x"}[5m])) > 0 and on (c) up_info') == {"gone_total", "up_info"}


def test_every_alert_has_its_page_in_the_runbook_and_no_other() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert set(re.findall(r"^## (TSS\w+)$", runbook, re.MULTILINE)) == RULES.keys()
    for alert, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"RUNBOOK_BASE/docs/runbook.md#{alert.lower()}"
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_the_dashboard_has_the_guides_five_panels_first() -> None:
    board = json.loads((FILES / "dashboard.json").read_text())
    titles = [panel["title"] for panel in board["panels"] if panel["type"] != "row"]
    assert titles[:5] == ["Throughput", "Latency", "Buffer", "Kafka", "Errors"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


# What has no value while nothing is wrong, nothing late, and no rule given.
QUIET = ("Errors: {{destination}}", "Errors: dead", "Errors: rejected", "Late and repeated: late", "Force rules",
         "Kafka's own errors", "Decisions of others", "Waiting: {{channel}}", "Rebalances and commits: commits")  # fmt: skip


@pytest.mark.debian
def test_a_live_prometheus_has_an_answer_to_everything(tansu: Tansu, redis: RedisServer, tmp_path: Path) -> None:
    place = make_world(tansu, tmp_path / "world", redis={"url": redis.url})
    place.send(*some_traces(20))
    with place.daemon as daemon:
        daemon.ready()
        until(lambda: daemon.metric("traces_sampled_total") >= 20, 20, daemon.tail)
        shown = promtool("check", "metrics", stdin=daemon.get("/metrics")[1])
        assert shown.returncode == 0 and not shown.stdout, shown.stdout + shown.stderr
        with Prometheus(tmp_path, ALERTS, f"127.0.0.1:{daemon.port}") as prometheus:
            # Twice, for there to be a rate.
            until(lambda: len(prometheus.query("count_over_time(tss_build_info[1m]) >= 3")) == 1, 20, prometheus.tail)
            place.send(*some_traces(21))  # the number is the seed, too
            until(lambda: daemon.metric("traces_sampled_total") >= 41, 20, daemon.tail)
            until(lambda: prometheus.query("increase(traces_sampled_total[1m]) > 0"), 20, prometheus.tail)
            assert prometheus.query("tss_ready == 1")
            assert prometheus.query("kafka_consumer_lag")
            assert prometheus.query("buffer_traces_current / buffer_traces_limit")
            assert prometheus.query("increase(export_errors_total[5m])")
            for rule in RULES.values():
                prometheus.query(rule["expr"])
            until(lambda: set(prometheus.rules().values()) == {"ok"}, 20, prometheus.rules)
            assert prometheus.rules().keys() == RULES.keys()
            answers = {
                panel: prometheus.query(query.replace("$__rate_interval", "1m")) for panel, query in PANELS.items()
            }
            assert [panel for panel, found in answers.items() if not found and not panel.startswith(QUIET)] == []
            assert not prometheus.query('ALERTS{alertstate="firing"}')
