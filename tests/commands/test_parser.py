"""One parser: each command has its help, options before the command stay valid, and the daemon is the default."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tss.__main__ import main, stale_module
from tss.commands import COMMANDS, run
from tss.commands.parser import parse, parser, program
from tss.settings import load

KAFKA = {"TSS_KAFKA_BROKERS": "kafka:9092", "TSS_DATADOG_API_KEY": "a-key-to-be-masked"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_and_the_exit_codes(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "example" in said and "exit codes" in said and f"python -m tss {command} " in said


def test_the_help_names_each_command_in_a_line(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"    {name} " in said and summary in said for name, summary in COMMANDS.items())


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ([], None),
        (["run"], None),
        (["--config", "a.yaml"], "a.yaml"),
        (["--config=a.yaml"], "a.yaml"),
        (["--conf", "a.yaml"], "a.yaml"),
        (["run", "--config", "a.yaml"], "a.yaml"),
        (["--config", "a.yaml", "run"], "a.yaml"),
    ],
)
def test_without_a_command_the_daemon_runs(arguments: list[str], config: str | None) -> None:
    options = parse(arguments, "tss")
    assert (options.call, options.config) == (run.call, config)


def test_options_before_check_are_its_own(tmp_path: Path, capsys) -> None:
    file = tmp_path / "tss.yaml"
    file.write_text("kafka: {brokers: 'one:1', inputTopic: theirs}")
    for arguments in (["--config", str(file), "check"], ["check", "--config", str(file)]):
        assert main(arguments, {"TSS_DATADOG_API_KEY": "k"}) == 0
        assert "topic theirs at one:1" in capsys.readouterr().out


def test_wrong_settings_end_the_daemon_with_2(capsys) -> None:
    assert main([], {}) == 2
    assert main(["run"], {}) == 2
    assert capsys.readouterr().err.count("kafka.brokers: found nothing") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "there is no command 'chekc'; did you mean 'check'?"),
        (["--config", "a", "wrong"], "there is no command 'wrong'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["check", "more"], "unrecognized arguments: more"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(arguments: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, KAFKA)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_program_is_called_as_the_user_called_it() -> None:
    assert [program(path) for path in ("/usr/bin/tss", "tss", "/x/tss/__main__.py", "-c")] == [
        "tss", "tss", "python -m tss", "python -m tss",
    ]  # fmt: skip
    assert parser("tss").format_usage().startswith("usage: tss ")


def test_a_run_loads_neither_the_other_commands_nor_their_libraries() -> None:
    """So that a start takes no longer than it must."""
    code = (
        "import sys; from tss.commands.parser import parse; parse(['--config', 'x'], 'tss');"
        "print([each for each in sys.modules if each in {'httpx', 'trio', 'urllib.request', 'tss.commands.force', 'tss.commands.check'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compiled_modules_that_are_older_than_their_sources_are_told(tmp_path: Path, monkeypatch, capsys) -> None:
    compiled, source = tmp_path / "scanner.cpython-311.so", tmp_path / "scanner.pyx"
    compiled.touch()
    source.touch()
    os.utime(source, (time.time() - 100,) * 2)
    assert stale_module(tmp_path) is None
    os.utime(source, (time.time() + 100,) * 2)
    assert stale_module(tmp_path) == compiled

    def call(*_: object) -> int:
        raise ImportError("cannot import name 'Scanner'")

    monkeypatch.setattr(run, "call", call)
    monkeypatch.setattr("tss.__main__.stale_module", lambda _: None)
    with pytest.raises(ImportError):
        main([], KAFKA)
    monkeypatch.setattr("tss.__main__.stale_module", lambda _: compiled)
    assert main([], KAFKA) == 1
    said = capsys.readouterr().err
    assert "cannot import name 'Scanner'" in said and "run `make setup`" in said


def test_the_start_line_can_be_made_where_force_rules_are_on() -> None:
    """They are a policy, too, and have no rate."""
    settings = load(None, KAFKA | {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": "a-token-of-sixteen"})
    assert run.in_force(settings, None)["policies"] == {"errors": 1, "latency": 0.1, "default": 0}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("trio", [BaseExceptionGroup("inner", [KeyboardInterrupt()])])]
)
def test_an_interrupted_command_ends_with_130_and_says_nothing(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise error

    monkeypatch.setattr("tss.commands.check.call", interrupted)
    assert main(["check", "--config", "x.yaml"], {}) == 130
    assert capsys.readouterr() == ("", "")


def test_another_error_beside_the_interruption_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise BaseExceptionGroup("trio", [KeyboardInterrupt(), ValueError("a fault")])

    monkeypatch.setattr("tss.commands.check.call", interrupted)
    with pytest.raises(BaseExceptionGroup):
        main(["check", "--config", "x.yaml"], {})
