"""`tss import otel`: what it reads, what it writes, and how it says that it cannot."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from tss import __main__ as command

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
    assert any("matches no trace, so it is left out" in line for line in comments)
    assert max(map(len, written.splitlines())) <= 130


def test_it_reads_stdin_and_writes_a_new_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tss.yaml"
    monkeypatch.setattr("sys.stdin", io.StringIO(SECTION))
    assert run("-", "--output", str(output)) == 0
    assert "errors" in output.read_text()
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
    told = capsys.readouterr().err
    assert "policies[0].type: found 'latancy'" in told
    assert "policies[1].latency.threshold_ms: found '5'" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "no YAML mapping"),
        ("a: [", "a YAML error"),
        ("processors: {batch: {}}", "found: none"),
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


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "none.yaml")) == 2
    assert "no readable file" in capsys.readouterr().err
