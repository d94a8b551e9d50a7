"""`tss explain` says what each policy says, by the daemon's own way, and what cannot be read."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.spans import span_id, trace_id
from tests.oracles.making import cases
from tests.policies import answer
from tss.__main__ import main
from tss.commands.explain import OTHER_LINES, SHOWN_ERRORS, document, explained
from tss.core.buffer import Limits, Waits
from tss.core.collector import read
from tss.core.combining import Sampler
from tss.core.policies.probability import SPACE, randomness, threshold
from tss.daemon.outside import limits
from tss.daemon.wiring import sampler_of, waits_of
from tss.settings import load

LEAST: dict[str, Any] = {
    "kafka": {"brokers": "kafka:9092"},
    "exporters": [{"name": "a", "type": "otlp", "endpoint": "http://a:4318"}],
}
OURS = [
    {"name": "probes", "drop": True, "when": 'root.attributes["url.path"] == "/healthz"'},
    {"name": "errors", "keep": 1.0, "when": {"status": "error"}},
    {"name": "new routes", "keep": 1.0, "mode": "shadow", "when": 'IsMatch(root.name, "^POST ")'},
    {"name": "rest", "keep": 0.25},
]
THEIRS = {
    "decision_wait": "10s",
    "decision_wait_after_root_received": "1s",
    "policies": [
        {"name": "probes", "type": "drop", "drop": {"drop_sub_policy": [
            {"name": "path", "type": "string_attribute", "string_attribute": {"key": "url.path", "values": ["/healthz"]}}
        ]}},
        {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
        {"name": "fails", "type": "ottl_condition",
         "ottl_condition": {"error_mode": "propagate", "span": ['Int(attributes["url.path"]) / 0 == 1']}},
        {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 25}},
    ],
}  # fmt: skip


def line(*spans: dict[str, Any]) -> str:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})


def span(
    trace: int, number: int = 0, *, parent: int | None = None, name: str = "GET /", path: str = "/", error: bool = False
) -> dict[str, Any]:
    return {
        "traceId": trace_id(trace).hex(),
        "spanId": span_id(number).hex(),
        "parentSpanId": "" if parent is None else span_id(parent).hex(),
        "name": name,
        "startTimeUnixNano": "1000000",
        "endTimeUnixNano": "2000000",
        "attributes": [{"key": "url.path", "value": {"stringValue": path}}],
        "status": {"code": 2 if error else 0},
    }  # fmt: skip


@pytest.fixture
def config(tmp_path: Path):
    def write(**sampling: object) -> str:
        file = tmp_path / "tss.yaml"
        file.write_text(yaml.safe_dump({**LEAST, "sampling": sampling}))
        return str(file)

    return write


def told(path: str, *lines: str) -> list[dict[str, Any]]:
    settings = load(path, {})
    return explained_with(sampler_of(settings), limits(settings), waits_of(settings), *lines)


def explained_with(sampler: Sampler, bounds: Limits, waits: Waits, *lines: str) -> list[dict[str, Any]]:
    found: Any = document(explained([each.encode() for each in lines], sampler, bounds, waits))
    assert found["unreadable"] == []
    return list(found["traces"])


def votes(trace: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
    return {each["policy"]: (each["vote"], each["rate"]) for each in trace["votes"]}


def test_each_policy_is_heard_and_the_decision_follows(config) -> None:
    path = config(policies=OURS)
    [probe, failed, plain] = told(
        path, line(span(1, path="/healthz", error=True)), line(span(2, error=True), span(3, name="POST /v2/"))
    )
    rest = ("keep", 0.25)
    assert votes(probe) == {
        "probes": ("drop", None),
        "errors": ("keep", 1),
        "new routes": ("abstain", None),
        "rest": rest,
    }
    assert (probe["verdict"], probe["policy"], probe["rate"]) == ("drop", "probes", 0)
    assert votes(failed) == {
        "probes": ("abstain", None),
        "errors": ("keep", 1),
        "new routes": ("abstain", None),
        "rest": rest,
    }
    assert (failed["verdict"], failed["policy"], failed["rate"]) == ("keep", "errors", 1)
    assert votes(plain)["new routes"] == ("keep", 1)
    assert (plain["policy"], plain["rate"], plain["reason"]) == ("rest", 0.25, "root_quiet")


def test_a_condition_that_fails_is_told_and_neither_it_nor_its_not_fits(config) -> None:
    large = 'Int(attributes["url.path"]) > 5'
    path = config(policies=[
        {"name": "large", "keep": 1, "when": large}, {"name": "small", "drop": True, "when": {"not": large}},
        {"name": "rest", "keep": 0.5},
    ])  # fmt: skip
    [fails, small] = told(path, line(span(1, path="/")), line(span(2, path="4")))
    assert votes(fails) == {"large": ("error", None), "small": ("error", None), "rest": ("keep", 0.5)}
    assert votes(small) == {"large": ("abstain", None), "small": ("drop", None), "rest": ("keep", 0.5)}


def test_a_shadow_policy_is_shown_with_what_would_be_if_it_acted(config) -> None:
    for number in range(20):
        [trace] = told(config(policies=OURS), line(span(number, name="POST /v2/")))
        [shadow] = [each for each in trace["votes"] if "shadow" in each]
        assert shadow == {"policy": "new routes", "vote": "keep", "rate": 1, "shadow": True, "wouldKeep": True}
    [trace] = told(config(policies=OURS), line(span(1, name="POST /v2/", path="/healthz")))
    assert [each["wouldKeep"] for each in trace["votes"] if "shadow" in each] == [False], "a drop wins"
    [trace] = told(config(policies=OURS), line(span(1)))
    assert [each["wouldKeep"] for each in trace["votes"] if "shadow" in each] == [None], "it does not vote"


def test_law_7_the_randomness_and_the_threshold_that_are_told_decide(config) -> None:
    traces = told(config(policies=OURS), *[line(span(number, error=number % 5 == 0)) for number in range(200)])
    assert {trace["verdict"] for trace in traces} == {"keep", "drop"}
    for number, trace in enumerate(traces):
        assert int(trace["randomness"], 16) == randomness(trace_id(number))
        assert int(trace["threshold"], 16) == threshold(trace["rate"])
        assert (trace["verdict"] == "keep") is (int(trace["randomness"], 16) >= int(trace["threshold"], 16))
        assert trace["rate"] == max(each["rate"] or 0 for each in trace["votes"] if "shadow" not in each)


def test_a_random_value_in_the_trace_state_is_the_one_that_is_told(config) -> None:
    brought = span(1) | {"traceState": "ot=rv:00000000000001"}
    [trace] = told(config(policies=OURS), line(brought))
    assert (trace["randomness"], trace["verdict"]) == ("00000000000001", "drop")


def test_a_section_of_a_collector_answers_in_its_words(config) -> None:
    probe, failed, *plain = told(
        config(otelTailSampling=THEIRS),
        line(span(1, path="/healthz", error=True)),
        line(span(2, path="1", error=True)),
        *[line(span(number, parent=9)) for number in range(3, 60)],
    )
    assert votes(probe)["probes"] == ("drop", None)
    assert (probe["verdict"], probe["policy"], probe["reason"]) == ("drop", "probes", "root_wait")
    assert votes(failed)["errors"] == ("sampled", None)
    assert votes(failed)["fails"] == ("error", None)
    assert votes(failed)["probes"] == ("abstain", None)
    assert (failed["verdict"], failed["policy"]) == ("keep", "errors")
    for trace in plain:
        vote, share = votes(trace)["some"]
        assert (vote == "sampled", share) == (trace["verdict"] == "keep", 0.25)
        assert (trace["threshold"], trace["reason"]) == (None, "decision_wait"), "a hash decides"
    assert {trace["verdict"] for trace in plain} == {"keep", "drop"}


def test_the_decisions_are_those_of_the_daemon_and_follow_from_the_votes() -> None:
    """Random sections and traces, near each other's limits."""
    verdicts = set()
    for case in cases("explain", 150):
        expected = answer(case)
        if "error" in expected:
            continue
        plan = read(case["config"], case["gates"])
        waits = Waits(0, 0, 0, plan.decision_wait_ms, plan.root_wait_ms)
        bounds = Limits(1, 1, 1, 1 << 40, plan.max_trace_bytes)
        traces = explained_with(plan.sampler(), bounds, waits, *map(json.dumps, case["traces"]))
        assert [(each["traceId"], each["verdict"] == "keep") for each in traces] == [
            (each["trace_id"], each["decision"] == "sampled") for each in expected["decisions"]
        ]
        for trace in traces:
            said = [each["vote"] for each in trace["votes"]]
            assert (trace["verdict"] == "keep") is ("sampled" in said and "drop" not in said)
            verdicts |= {trace["verdict"], *said}
    assert verdicts == {"keep", "drop", "sampled", "not_sampled", "error", "abstain"}


def test_a_trace_that_is_too_large_is_told_and_so_are_its_late_spans(config) -> None:
    section = THEIRS | {"maximum_trace_size_bytes": 300}
    [trace] = told(config(otelTailSampling=section), *[line(span(1, number, error=True)) for number in range(9)])
    assert (trace["verdict"], trace["policy"], trace["reason"]) == ("drop", "maximum_trace_size_bytes", "too_large")
    assert trace["votes"] == []
    assert trace["spans"] + trace["lateSpans"] == 9 and trace["lateSpans"] > 0


def test_late_spans_of_a_kept_trace_are_told(tmp_path: Path) -> None:
    file = tmp_path / "tss.yaml"
    file.write_text(yaml.safe_dump({**LEAST, "sampling": {"policies": OURS}, "app": {"maxTraceSpans": 3}}))
    [trace] = told(str(file), *[line(span(1, number, error=True)) for number in range(5)])
    assert (trace["verdict"], trace["reason"], trace["spans"], trace["lateSpans"]) == ("keep", "span_limit", 3, 2)


def test_spans_of_a_trace_in_several_lines_are_one_trace_and_the_first_line_gives_the_order(config) -> None:
    lines = [line(span(7, 0)), line(span(3, 0)), "", line(span(7, 1, parent=0, error=True)), "  \n"]
    first, second = told(config(policies=OURS), *lines)
    assert (first["traceId"], first["spans"], first["policy"]) == (trace_id(7).hex(), 2, "errors")
    assert (second["traceId"], second["spans"], second["policy"]) == (trace_id(3).hex(), 1, "rest")


def test_without_its_root_a_trace_is_decided_for_inactivity(config) -> None:
    [trace] = told(config(policies=OURS), line(span(1, 1, parent=0)))
    assert trace["reason"] == "inactive"


def test_lines_that_cannot_be_read_are_named_and_the_others_are_explained(config, tmp_path: Path, capsys) -> None:
    traces = tmp_path / "traces.jsonl"
    broken = span(5) | {"traceId": "00" * 16}
    not_hex = span(6) | {"traceId": "zz" * 16}
    lines = [
        line(span(1, error=True)),
        "{not json",
        "",
        line(span(2), broken),
        "[]",
        "{}",
        line(not_hex),
        '{"resourceLogs": []}',
    ]
    traces.write_text("\n".join(lines))
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces)], {}) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "line 2: not JSON: expecting property name enclosed in double quotes, at column 2",
        "line 4: 1 of 2 spans: trace id is not 16 bytes or is all zero; the first is all zero",
        "line 5: not OTLP JSON: the outermost value is no object but an array",
        f'line 7: 1 of 1 spans: trace id is not 16 bytes or is all zero; the first is not hexadecimal: "{"zz" * 16}"',
        "line 8: no spans: it has the key resourceLogs, and spans are below resourceSpans",
    ]
    assert trace_id(1).hex() in said.out and trace_id(2).hex() in said.out
    assert said.out.splitlines()[-1].startswith("2 traces: ")
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces), "--json"], {}) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["line"] for each in found["unreadable"]] == [2, 4, 5, 7, 8]


@pytest.mark.parametrize("empty", ["{}", '{"resourceSpans": []}', " \n\n", '{"resource_spans": [{"scopeSpans": []}]}'])
def test_a_request_without_spans_is_no_error(config, tmp_path: Path, capsys, empty: str) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_text(f"{empty}\n{line(span(1))}\n{empty}\n")
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces)], {}) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (json.dumps(json.loads(line(span(1))), indent=2).encode(), "jq -c . FILE"),
        (f"\n[{line(span(1))},\n{line(span(2))}]".encode(), "jq -c '.[]' FILE"),
        (json.dumps([json.loads(line(span(1)))] * 9, indent=1).encode(), "jq -c '.[]' FILE"),
        (gzip.compress("\n".join([line(span(number)) for number in range(999)]).encode()), "gunzip -c FILE"),
    ],
)
def test_another_form_of_file_is_named_once_with_the_remedy(
    config, tmp_path: Path, capsys, content: bytes, remedy: str
) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_bytes(content)
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces)], {}) == 1
    [only] = capsys.readouterr().err.splitlines()
    assert only.startswith("line ") and only.endswith(remedy)


def test_a_first_line_of_another_form_ends_nothing_if_others_can_be_read(config, tmp_path: Path, capsys) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_text(
        "\n".join(["[]", *["x"] * (OTHER_LINES // 2), line(span(1)), *["x"] * OTHER_LINES, line(span(2))])
    )
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces), "--json"], {}) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["traceId"] for each in found["traces"]] == [trace_id(1).hex(), trace_id(2).hex()]
    good = {2 + OTHER_LINES // 2, 3 + OTHER_LINES // 2 + OTHER_LINES}
    assert [each["line"] for each in found["unreadable"]] == [n for n in range(1, max(good)) if n not in good]


def test_after_some_errors_their_number_is_told(config, tmp_path: Path, capsys) -> None:
    traces = tmp_path / "traces.jsonl"
    for wrong in (SHOWN_ERRORS, SHOWN_ERRORS + 2000):
        traces.write_text("\n".join([line(span(1)), *["x"] * wrong]))
        assert main(["explain", "--config", config(policies=OURS), "--input", str(traces)], {}) == 1
        told = capsys.readouterr().err.splitlines()
        assert told[0].startswith("line 2: ") and told[SHOWN_ERRORS - 1].startswith(f"line {SHOWN_ERRORS + 1}: ")
        assert [each.partition(":")[0] for each in told[SHOWN_ERRORS:]] == (
            ["and 2,000 more errors of this kind"] if wrong > SHOWN_ERRORS else []
        )


def test_the_input_may_be_stdin(config, monkeypatch, capsys) -> None:
    class Stdin:
        buffer = io.BytesIO(line(span(1, error=True)).encode())

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert main(["explain", "--config", config(policies=OURS), "--input", "-"], {}) == 0
    assert trace_id(1).hex() in capsys.readouterr().out


def test_a_missing_file_and_wrong_settings_end_with_2(config, tmp_path: Path, capsys) -> None:
    missing = str(tmp_path / "missing.jsonl")
    assert main(["explain", "--config", config(policies=OURS), "--input", missing], {}) == 2
    assert f"tss explain: {missing}: No such file or directory" in capsys.readouterr().err
    assert main(["explain", "--config", config(policies=[{"name": "x"}]), "--input", missing], {}) == 2
    assert "sampling.policies[0]" in capsys.readouterr().err
    assert main(["explain", "--config", str(tmp_path), "--input", missing], {}) == 2


def test_settings_with_policies_only_are_enough_and_their_errors_are_told(tmp_path: Path, capsys) -> None:
    few, traces = tmp_path / "few.yaml", tmp_path / "traces.jsonl"
    traces.write_text(line(span(1)))
    few.write_text(yaml.safe_dump({"sampling": {"policies": OURS}}))
    assert main(["explain", "--config", str(few), "--input", str(traces)], {}) == 0
    assert "rest" in capsys.readouterr().out
    few.write_text(yaml.safe_dump({"kafka": {"brokers": ""}, "sampling": {"policies": [{"name": "a", "keep": 3}]}}))
    assert main(["explain", "--config", str(few), "--input", str(traces)], {}) == 2
    said = capsys.readouterr().err
    assert "sampling.policies[0]" in said
    assert "kafka.brokers" in said, "an empty text is an error, also where none is needed"


def test_stdin_is_either_the_settings_or_the_input(capsys) -> None:
    assert main(["explain", "--config", "-", "--input", "-"], {}) == 2
    assert capsys.readouterr().err == "tss explain: stdin cannot be both the settings and the input\n"


def test_a_reader_that_has_read_enough_is_no_error(config, tmp_path: Path) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_text("\n".join([line(span(number)) for number in range(2000)]))
    command = [sys.executable, "-m", "tss", "explain", "--config", config(policies=OURS), "--input", str(traces)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert (running.stderr.read(), running.wait()) == (b"", 0)


def test_the_destinations_of_a_routed_trace_are_told(tmp_path: Path, capsys) -> None:
    exporters = [
        {**LEAST["exporters"][0], "match": {"policies": ["errors"]}},
        {**LEAST["exporters"][0], "name": "b", "match": {"policies": ["rest"]}},
    ]
    file, traces = tmp_path / "tss.yaml", tmp_path / "traces.jsonl"
    file.write_text(yaml.safe_dump({**LEAST, "exporters": exporters, "sampling": {"policies": OURS}}))
    traces.write_text(line(span(1, error=True)))
    assert main(["explain", "--config", str(file), "--input", str(traces)], {}) == 0
    assert "    sent to: a\n" in capsys.readouterr().out
    assert told(str(file), line(span(1, error=True)))[0]["destinations"] == ["a"]


def test_the_table_fits_100_columns_and_says_it_all(config, tmp_path: Path, capsys) -> None:
    traces = tmp_path / "traces.jsonl"
    traces.write_text("\n".join([line(span(1, path="/healthz")), line(span(2, name="POST /v2/", error=True))]))
    assert main(["explain", "--config", config(policies=OURS), "--input", str(traces)], {}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    kept = f"{randomness(trace_id(2)):014x} >= threshold 00000000000000"
    assert lines == [
        "TRACE                             SPANS  VERDICT  RATE      REASON         POLICY",
        f"{trace_id(1).hex()}      1  drop     0 %       root_quiet     probes",
        "    probes      drop",
        "    errors      does not match",
        "    new routes  does not match  (shadow)",
        "    rest        keep 25 %",
        f"    randomness {randomness(trace_id(1)):014x} did not decide",
        f"{trace_id(2).hex()}      1  keep     100 %     root_quiet     errors",
        "    probes      does not match",
        "    errors      keep 100 %",
        "    new routes  keep 100 %  (shadow: if it acted, the trace would be kept)",
        "    rest        keep 25 %",
        f"    randomness {kept}",
        "2 traces: 1 kept, 1 dropped",
    ]
    assert threshold(0.25) < SPACE
