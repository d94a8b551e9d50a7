"""`tss import otel`: what it reads, what it writes, and how it says that it cannot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from tests.oracles.making import cases
from tss import __main__ as command
from tss.commands.importing import MISSING
from tss.settings import load

SECTION = """\
decision_wait: 10s
decision_wait_after_root_received: 2s
policies:
  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  - {name: typo, type: latency, latancy: {threshold_ms: 5000}}
  - {name: never, type: span_count, span_count: {min_spans: 3, max_spans: 2}}
"""


def indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" for line in text.splitlines())


def run(*arguments: str) -> int:
    return command.main(["import", "otel", *arguments])


def file(at: Path, text: str) -> str:
    path = at / "collector.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        SECTION,
        f"tail_sampling:\n{indented(SECTION, 2)}",
        f"receivers: {{}}\nprocessors:\n  batch:\n  tail_sampling/main:\n{indented(SECTION, 4)}",
    ],
)
def test_it_finds_the_section(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file(tmp_path, text)) == 0
    written = capsys.readouterr().out
    assert yaml.safe_load(written) == {
        "sampling": {
            "policies": [
                {"name": "errors", "keep": 1, "when": {"status": "error"}},
                {"name": "typo", "keep": 1, "when": {"latency": ">= 1ms"}},
            ]
        },
        "app": {"rootQuietSecs": 2, "inactivityTimeoutSecs": 10, "maxTraceDurationSecs": 10},
    }
    comments = [line.strip() for line in written.splitlines() if line.strip().startswith("#")]
    assert any("did you mean latency?" in line for line in comments)
    assert not any("?." in line or ".." in line for line in comments)
    assert any("matches no trace, so it is left out" in line for line in comments)
    assert max(map(len, written.splitlines())) <= 130


def test_it_reads_stdin_and_writes_a_new_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tss.yaml"
    monkeypatch.setattr("sys.stdin", io.StringIO(SECTION))
    assert run("-", "--output", str(output)) == 0
    assert "errors" in output.read_text()
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"{output}: written with 2 of 3 policies. Its comments have 4 notes, and 0 places where the verdicts differ (`Differs`)",
        f"next: fill in kafka and exporters, which are there as comments; then `tss check --config {output}`",
    ]
    assert told.err == ""
    monkeypatch.setattr("sys.stdin", io.StringIO(SECTION))
    assert run("-", "--output", str(output)) == 2
    assert f"{output}: cannot be written" in capsys.readouterr().err


def test_a_section_that_keeps_nothing_becomes_a_policy_that_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file(tmp_path, "policies: []")) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    assert written["sampling"]["policies"] == [{"name": "nothing", "keep": 0}]


def test_a_refused_section_is_told_with_every_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "policies:\n  - {name: a, type: latancy}\n  - {name: b, type: latency, latency: {threshold_ms: '5'}}\n"
    assert run(file(tmp_path, wrong)) == 1
    first, *reasons, last = capsys.readouterr().err.splitlines()
    assert first == f"{tmp_path / 'collector.yaml'}: the section tail_sampling is refused:"
    assert [reason.partition("; allowed")[0] for reason in reasons] == [
        "  line 2: policies[0].type (policy a): found 'latancy'",
        "  line 3: policies[1].latency.threshold_ms (policy b): found '5'",
    ]
    assert "--skip-refused" in last


def test_the_line_is_the_one_of_the_key_in_the_whole_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "receivers: {}\nprocessors:\n  tail_sampling/main:\n    policies:\n    - name: a\n    - type: latency\n      name:\n"
    assert run(file(tmp_path, text)) == 1
    told = capsys.readouterr().err
    assert "  line 5: policies[0].type (policy a): found null" in told, (
        "a key that is missing has the line of its policy"
    )
    assert "  line 7: policies[1].name: found" in told


def test_a_gate_is_no_key_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file(tmp_path, SECTION), "--gates", "usetracestat") == 1
    told = capsys.readouterr().err
    assert "  --gates: found 'usetracestat'" in told and "did you mean usetracestate?" in told
    assert "--skip-refused" not in told


LIMITED = """\
policies:
  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  - {name: limit, type: rate_limiting, rate_limiting: {spans_per_second: 5}}
  - {name: parts, type: composite, composite: {max_total_spans_per_second: 5}}
  - {name: typo, type: latancy}
  - {name: slow, type: latency, latency: {threshold_ms: 50}}
"""


def test_refused_policies_can_be_left_out_with_a_comment_in_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tss.yaml"
    assert run(file(tmp_path, LIMITED), "--skip-refused", "--output", str(output)) == 0
    told, written = capsys.readouterr().out, output.read_text()
    assert "written with 2 of 5 policies." in told and "3 places where the verdicts differ" in told
    assert "left out, because they are refused: 3 policies" in told
    assert [each["name"] for each in yaml.safe_load(written)["sampling"]["policies"]] == ["errors", "slow"]
    places = [
        written.index(f"# policies[{place}]: {name}\n")
        for place, name in enumerate(["errors", "limit", "parts", "typo", "slow"])
    ]
    assert places == sorted(places)
    assert written.count("Differs: this policy is left out, because it is refused") == 3
    assert "until then use probabilistic" in written and "until then write its sub-policies" in " ".join(
        written.split()
    )


def test_if_all_policies_are_left_out_none_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file(tmp_path, "policies: [{name: a, type: composite}, 5]"), "--skip-refused") == 0
    written = yaml.safe_load(capsys.readouterr().out)
    assert written["sampling"]["policies"] == [{"name": "nothing", "keep": 0}]


def test_a_section_that_is_wrong_itself_is_refused_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file(tmp_path, f"{LIMITED}decision_wait: soon\n"), "--skip-refused") == 1
    told = capsys.readouterr().err
    assert "  line 7: decision_wait: found 'soon'" in told and "--skip-refused" not in told


def test_with_the_sections_that_are_there_as_comments_the_settings_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with names that are no names of ours."""
    names = ["a: b\nc", "none", "x" * 70, "\u2028", "\x85b", " y "]
    section = {"policies": [{"name": name, "type": "always_sample"} for name in names]}
    output = tmp_path / "tss.yaml"
    assert run(file(tmp_path, yaml.safe_dump(section)), "--output", str(output)) == 0
    text = output.read_text()
    for line in MISSING[1:]:
        assert f"# {line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    output.write_text(text)
    assert command.main(["check", "--config", str(output)], {}) == 0
    assert "a- b c" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "no YAML mapping"),
        ("a: [", "a YAML error"),
        (
            "processors: {batch: {}}",
            "no tail_sampling section: expected processors.tail_sampling, or policies at the top",
        ),
        ("a: 1", "no tail_sampling section: expected processors.tail_sampling, or policies at the top"),
        ("processors: {tail_sampling: {}, tail_sampling/b: {}}", "choose one with --processor"),
        ("processors: []", "processors is no mapping"),
        ("policies: []\npolicies: []", "the same key"),
    ],
)
def test_a_file_without_one_section(text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file(tmp_path, text)) == 2
    assert words in capsys.readouterr().err


def test_one_of_several_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"processors:\n  tail_sampling: {{}}\n  tail_sampling/b:\n{indented(SECTION, 4)}"
    for name in ("b", "tail_sampling/b"):
        assert run(file(tmp_path, text), "--processor", name) == 0
        assert "errors" in capsys.readouterr().out
    assert run(file(tmp_path, text), "--processor", "c") == 2
    assert "no section tail_sampling/c; there are: tail_sampling, tail_sampling/b" in capsys.readouterr().err


def test_every_file_that_is_written_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random sections, also wrong ones: those without an error outside of the policies are written."""
    output, written = tmp_path / "tss.yaml", 0
    for case in cases("written", 150):
        code = run(file(tmp_path, json.dumps(case["config"])), "--skip-refused")
        said = capsys.readouterr()
        if code == 0:
            written += 1
            output.write_text(said.out)
            load(str(output), {}, offline=True)
        else:
            assert said.err
    assert written > 120


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "none.yaml")) == 2
    assert "no readable file" in capsys.readouterr().err
