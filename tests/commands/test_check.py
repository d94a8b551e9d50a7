"""`tss check` says in words what is in force, warns of what hardly anybody means, and keeps secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tss.__main__ import main
from tss.commands.check_summary import differences, document
from tss.commands.check_warnings import warnings
from tss.commands.units import share, size, time
from tss.settings import load

LEAST = {"kafka": {"brokers": "kafka:9092"}, "exporters": [{"name": "a", "type": "otlp", "endpoint": "http://a:4318"}]}
SECRET = "hush-hush-hush-hush"


@pytest.fixture
def config(tmp_path: Path):
    def write(**sections: object) -> str:
        file = tmp_path / "tss.yaml"
        file.write_text(yaml.safe_dump({**LEAST, **sections}))
        return str(file)

    return write


def warned(path: str) -> dict[str, str]:
    return {each.key: each.text for each in warnings(load(path, {}))}


def test_it_says_what_is_kept_when_and_where_it_goes(config, capsys) -> None:
    path = config(sampling={"defaultSampleRate": 0.01}, app={"rootQuietSecs": 90})
    assert main(["check", "--config", path], {}) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for words in (
        f"The settings are sound ({path} and the environment).",
        "topic otel-traces-raw at kafka:9092, consumer group tail-sampling-selector",
        "no span came for 90 s",
        "100 % of the traces with an error (errors)",
        "10 % of the traces that last 5 s or longer (latency)",
        "1 % of all other traces (default)",
        "a: OTLP to http://a:4318, every kept trace",
        "file tss-dead-letter.jsonl",
        "for open traces, of a limit of",
        "/health on 0.0.0.0:8080",
        "  sampling.defaultSampleRate: 0.01 (default: 0)",
        "  app.rootQuietSecs: 90 (default: 30)",
    ):
        assert words in told.out
    assert "Warnings" not in told.out


def test_with_defaults_nothing_differs_and_the_missing_rate_is_warned_of(config) -> None:
    """The guide's own values keep no healthy trace."""
    path = config()
    assert differences(load(path, {})) == []
    assert list(warned(path)) == ["sampling.defaultSampleRate"]
    assert "no healthy trace is kept" in warned(path)["sampling.defaultSampleRate"]


def test_a_warning_names_the_line_of_its_key_or_of_the_policy(tmp_path: Path, capsys, monkeypatch) -> None:
    text = (
        "kafka: {brokers: 'k:9092'}\napp:\n  maxTraceSpans: 10\nexporters: [{name: f, type: file, path: p}]\nsampling:\n  policies:\n"
        "    - {name: rest, keep: 0.1}\n    - name: slow\n      keep: 0.5\n      when: duration > 5\n    - {name: few, keep: 0.05}\n"
    )
    file = tmp_path / "tss.yaml"
    file.write_text(text)
    assert main(["check", "--config", str(file), "--json"], {}) == 0
    said = json.loads(capsys.readouterr().out)
    assert {each["key"]: each["line"] for each in said["warnings"]} == {
        "app.maxTraceSpans": 3,
        "sampling.policies[1].when": 10,
        "sampling.policies[2]": 11,
    }
    monkeypatch.setenv("TSS_APP_MAX_TRACE_SPANS", "9")
    file.write_text(text.replace("  maxTraceSpans: 10", "  rootQuietSecs: 30"))
    with file.open() as stdin:
        command = [sys.executable, "-m", "tss", "check", "--config", "-"]
        told = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=True).stdout
    assert "  sampling.policies[1].when (line 10): " in told
    assert "  app.maxTraceSpans: " in told, "it is not from the file"


def test_all_is_yaml_that_can_be_read_back(config, tmp_path: Path, capsys) -> None:
    path = config(spanMetrics={"enabled": True})
    assert main(["check", "--all", "--config", path], {}) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert document(load(str(again), {})) == document(load(path, {}))


EXPORTERS = [
    {"name": "o", "type": "otlp", "endpoint": "http://a:4318", "bearerToken": SECRET, "headers": {"x": SECRET}},
    {"name": "d", "type": "datadog", "apiKey": SECRET},
    {"name": "k", "type": "kafka", "topic": "kept"},
    {"name": "f", "type": "file", "path": "kept.jsonl", "match": {"policies": ["errors"]}},
]


@pytest.mark.parametrize("more", [[], ["--all"], ["--json"], ["--json", "--all"]])
def test_secrets_are_masked_whatever_the_form(config, more: list[str], capsys) -> None:
    kafka = {"brokers": "kafka:9092", "saslUsername": "u", "saslPassword": SECRET}
    redis = {"url": f"redis://u:{SECRET}@redis:6379"}
    path = config(kafka=kafka, redis=redis, exporters=EXPORTERS, forceSampling={"adminToken": SECRET})
    assert main(["check", "--config", path, *more], {}) == 0
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err and "***" in told.out


def test_each_destination_and_its_own_differences_are_told(config, capsys) -> None:
    assert main(["check", "--config", config(exporters=EXPORTERS)], {}) == 0
    said = capsys.readouterr().out
    for words in (
        "o: OTLP to http://a:4318, every kept trace",
        "d: Datadog's intake at datadoghq.com, every kept trace",
        "k: Kafka topic kept, every kept trace",
        'f: file kept.jsonl, kept traces that match {"policies": ["errors"]}',
        "exporters[0].bearerToken: *** (default: empty)",
        'exporters[3].match: {"policies": ["errors"]} (default: empty)',
    ):
        assert words in said


def test_json_has_what_the_words_have(config, capsys) -> None:
    path = config(app={"maxTraceSpans": 50}, sampling={"defaultSampleRate": 0.5})
    assert main(["check", "--json", "--config", path], {}) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"] is True and said["inForce"]["Sends to"] == ["a: OTLP to http://a:4318, every kept trace"]
    assert {"key": "app.maxTraceSpans", "value": 50, "default": 50_000} in said["differences"]
    assert [each["key"] for each in said["warnings"]] == ["app.maxTraceSpans"]
    assert "settings" not in said
    assert main(["check", "--json", "--all", "--config", path], {}) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["app"]["maxTraceSpans"] == 50


def test_errors_are_told_in_both_forms_with_exit_code_2(config, capsys) -> None:
    path = config(app={"maxTraceSpans": -1, "wrong": 1})
    assert main(["check", "--json", "--config", path], {}) == 2
    told = capsys.readouterr()
    said = json.loads(told.out)
    assert said["sound"] is False and len(said["errors"]) == 2
    assert all(error in told.err for error in said["errors"])


@pytest.mark.parametrize(
    ("sections", "key", "words"),
    [
        ({"app": {"maxBufferBytes": 1024}}, "app.maxBufferBytes", "1 KiB hold very few spans"),
        ({"app": {"maxBufferBytes": 2**50}}, "app.maxBufferBytes", "the kernel kills the process"),
        ({"app": {"maxBufferTraces": 1}}, "app.maxBufferTraces", "decided early"),
        ({"app": {"maxBufferSpans": 10}}, "app.maxBufferSpans", "decided early"),
        ({"app": {"maxTraceSpans": 10}}, "app.maxTraceSpans", "before the rest comes"),
        ({"app": {"shutdownTimeoutSecs": 0.5}}, "app.shutdownTimeoutSecs", "in 500 ms batches"),
        ({"app": {"rootQuietSecs": 0}}, "app.rootQuietSecs", "SDKs send every 5 s"),
        ({"app": {"inactivityTimeoutSecs": 8000}}, "app.inactivityTimeoutSecs", "8000 s: an incomplete trace"),
        ({"app": {"maxTraceDurationSecs": 6 * 86400}}, "app.maxTraceDurationSecs", "6 d: "),
        ({"sampling": {"latencyThresholdMs": 5}}, "sampling.latencyThresholdMs", "most traces last 5 ms or longer"),
        ({"sampling": {"latencyThresholdMs": 10**8}}, "sampling.latencyThresholdMs", "hardly a trace"),
        ({"sampling": {"defaultSampleRate": 1}}, "sampling.defaultSampleRate", "every trace is kept"),
        ({"sampling": {"alwaysSampleErrors": False}}, "sampling.errorSampleRate", "by chance only"),
        ({"sampling": {"errorSampleRate": 0, "latencySampleRate": 0}}, "sampling", "no trace is kept"),
        ({"kafka": {"brokers": "a:1", "enableAutoCommit": False}}, "kafka.enableAutoCommit", "only for rehearsals"),
        ({"kafka": {"brokers": "a:1", "sslVerify": False}}, "kafka.sslVerify", "pose as a broker"),
        (
            {"kafka": {"brokers": "a:1", "commitIntervalSecs": 3000}},
            "kafka.commitIntervalSecs",
            "50 min: after a crash",
        ),
        ({"deadLetter": {"type": "log"}}, "deadLetter.type", "only in the log"),
        ({"app": {"parkAfterSecs": 5}}, "app.parkAfterSecs", "this has no effect"),
        (
            {"observability": {"enablePrometheus": False, "enableHealthCheck": False}},
            "observability",
            "neither /metrics nor /health",
        ),
        (
            {"exporters": [{"name": "a", "type": "otlp", "endpoint": "http://a:4317"}]},
            "exporters[0].endpoint",
            "OTLP over gRPC",
        ),
        (
            {"exporters": [{"name": "a", "type": "file", "path": "a", "match": {"policies": ["errors"]}}]},
            "exporters",
            "sent nowhere",
        ),
        (
            {"exporters": [{"name": "a", "type": "file", "path": "a", "batchTimeoutSecs": 28_800}]},
            "exporters[0].batchTimeoutSecs",
            "8 h: kept traces wait",
        ),
    ],
)
def test_what_is_allowed_and_absurd_is_warned_of_and_sound(config, sections, key: str, words: str, capsys) -> None:
    path = config(**sections)
    assert words in warned(path)[key]
    assert main(["check", "--config", path], {}) == 0
    assert re.search(rf"^  {re.escape(key)}(?: \(line \d+\))?: ", capsys.readouterr().out, re.MULTILINE)


def test_parquet_without_pyarrow_is_an_error_that_names_the_package(config, monkeypatch, capsys) -> None:
    path = config(exporters=[{"name": "rows", "type": "parquet", "path": "rows"}])
    assert main(["check", "--config", path], {}) == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "tss.edges.files.parquet_table", raising=False)
    assert main(["check", "--config", path], {}) == 2
    said = capsys.readouterr().err
    assert "exporters, rows: " in said and "pip install 'tail-sampling-selector[parquet]'" in said


def test_a_dash_is_stdin() -> None:
    command = [sys.executable, "-m", "tss", "check", "--config", "-"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TSS_")}
    done = subprocess.run(
        command, input=yaml.safe_dump(LEAST), capture_output=True, text=True, env=environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and "topic otel-traces-raw at kafka:9092" in done.stdout


def test_numbers_are_written_as_people_write_them() -> None:
    assert [time(secs) for secs in (0, 0.2, 1, 90, 600, 10_800, 86_400)] == [
        "0 s", "200 ms", "1 s", "90 s", "10 min", "3 h", "1 d",
    ]  # fmt: skip
    assert [size(number) for number in (0, 1023, 1024, 5 * 2**20, 2**31)] == [
        "0 bytes", "1,023 bytes", "1 KiB", "5 MiB", "2 GiB",
    ]  # fmt: skip
    assert [share(rate) for rate in (0, 0.001, 0.1, 1)] == ["0 %", "0.1 %", "10 %", "100 %"]
