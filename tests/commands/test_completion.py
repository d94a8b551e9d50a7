"""`tss completion`: the shells accept the scripts, and bash completes commands and options by it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tss.__main__ import main
from tss.commands import COMMANDS

# The words of the scripts are tested for both shells; whether a shell accepts its script, only where it is installed.
INSTALLED = [shell for shell in ("bash", "zsh") if shutil.which(shell)]


@pytest.fixture
def script(tmp_path, capsys):
    def write(shell: str):
        assert main(["completion", shell]) == 0
        file = tmp_path / f"tss.{shell}"
        file.write_text(capsys.readouterr().out)
        return file

    return write


@pytest.mark.parametrize("shell", INSTALLED)
def test_the_shell_accepts_the_script(script, shell: str) -> None:
    subprocess.run([shell, "-n", str(script(shell))], check=True)


def test_every_command_and_its_options_are_in_it(script) -> None:
    for shell in ("bash", "zsh"):
        text = script(shell).read_text()
        assert all(name in text for name in (*COMMANDS, "--connect", "--rate", "--priority"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tss", "ch"], {"check"}),
        (["tss", "check", "--co"], {"--config", "--connect"}),
        (["tss", "force", "ex"], {"extend"}),
        (["tss", "size", "--ra"], {"--rate"}),
    ],
)
def test_bash_completes(script, words: list[str], found: set[str]) -> None:
    line = " ".join(words)
    code = (
        f"source {script('bash')}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}';"
        f' COMP_POINT={len(line)}; _shtab_tss tss "{words[-1]}" "{words[-2]}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == found
