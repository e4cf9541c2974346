"""``uwserve completion``: each script in its shell completes exactly the options of the parser."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from http_client import DEADLINE

from uwserve.cli.completion import bash, fish, zsh
from uwserve.cli.parser import make_parser

pytestmark = pytest.mark.plain("no server is made")

COMMANDS = {"serve", "echo", "chat", "bench", "doctor", "completion"}


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def run(*command: str | Path, cwd: Path | None = None) -> str:
    unwanted = {"BASH_ENV", "ZDOTDIR"} | (set() if command[0] == sys.executable else {"LD_PRELOAD"})  # a sanitizer's
    environment = {name: text for name, text in os.environ.items() if name not in unwanted}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def options(command: str) -> set[str]:
    return {text for action in make_parser().commands[command]._actions for text in action.option_strings}


def test_the_command_prints_them() -> None:
    for shell, made in (("bash", bash), ("zsh", zsh), ("fish", fish)):
        assert run(sys.executable, "-m", "uwserve", "completion", shell) == made(make_parser())


def test_it_knows_every_command() -> None:
    assert set(make_parser().commands) == COMMANDS


# --- bash ---


@pytest.fixture
def bash_completes(tmp_path: Path):
    shell = needs("bash")
    (tmp_path / "script").write_text(bash(make_parser()))
    (tmp_path / "cert.pem").touch()
    (tmp_path / "folder").mkdir()

    def complete(*words: str) -> set[str]:
        """What the last of ``words``, after ``uwserve``, may become."""
        program = (
            'source ./script; COMP_WORDS=(uwserve "$@"); COMP_CWORD=$#; _uwserve; '
            'for word in "${COMPREPLY[@]}"; do echo "$word"; done'
        )
        return set(run(shell, "--norc", "-c", program, "bash", *words, cwd=tmp_path).splitlines())

    return complete


def test_bash(bash_completes) -> None:
    assert bash_completes("") == COMMANDS | {"-h", "--help", "-V", "--version"}
    assert bash_completes("se") == {"serve"}
    for command in COMMANDS - {"completion"}:
        assert bash_completes(command, "") == options(command)
    assert bash_completes("completion", "") == {"bash", "zsh", "fish", "-h", "--help"}
    assert bash_completes("serve", "--port") == {"--port"}
    assert bash_completes("serve", "app:options", "--tls-") == {"--tls-cert", "--tls-key"}
    assert bash_completes("serve", "--log-level", "") == {"debug", "info", "warning", "error", "critical"}
    assert bash_completes("serve", "--port", "") == set()
    assert bash_completes("serve", "--tls-cert", "c") == {"cert.pem"}
    assert bash_completes("serve", "--env-file", "") == {"cert.pem", "folder", "script"}
    assert bash_completes("serve", "--reload-dir", "") == {"folder"}
    assert bash_completes("serve", "--metrics", "") == set()


def test_bash_is_told_of_the_function(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(bash(make_parser()))
    told = run(needs("bash"), "--norc", "-c", "source ./script; complete -p uwserve", cwd=tmp_path)
    assert told == "complete -F _uwserve uwserve\n"


# --- fish ---


def test_fish(tmp_path: Path) -> None:
    shell = needs("fish")
    (tmp_path / "script").write_text(fish(make_parser()))
    (tmp_path / "cert.pem").touch()

    def complete(line: str) -> set[str]:
        """What the end of ``line`` may become; without its description, behind a tab."""
        told = run(shell, "--no-config", "-c", 'source ./script; complete -C "$argv[1]"', line, cwd=tmp_path)
        return {word.partition("\t")[0] for word in told.splitlines()}

    assert complete("uwserve ") == COMMANDS
    assert complete("uwserve se") == {"serve"}
    assert {text for text in options("serve") if text.startswith("--")} <= complete("uwserve serve --")
    assert complete("uwserve serve --log-level ") == {"debug", "info", "warning", "error", "critical"}
    assert complete("uwserve completion ") == {"bash", "zsh", "fish"}
    assert complete("uwserve serve --tls-cert c") == {"cert.pem"}
    assert "--seconds" not in complete("uwserve serve --")
    assert "--version" in complete("uwserve --v")


# --- zsh ---

# What zsh's own functions are called with: one argument a line.
STUBS = """
compdef() { print -r -- "compdef $*" }
_arguments() { print -rl -- "$@"; state=arguments; line=($LINE) }
_describe() { print -rl -- $commands }
source ./script
"""


def test_zsh(tmp_path: Path) -> None:
    shell = needs("zsh")
    (tmp_path / "script").write_text(zsh(make_parser()))
    assert run(shell, "-n", "script", cwd=tmp_path) == ""
    assert run(shell, "-f", "-c", STUBS, cwd=tmp_path) == "compdef _uwserve uwserve\n"
    for command in COMMANDS:
        told = run(shell, "-f", "-c", f"{STUBS}\nLINE={command}; _uwserve", cwd=tmp_path).splitlines()
        specs = [line.lstrip("*") for line in told if line.lstrip("*").startswith("-")]
        given = {spec.partition("[")[0] for spec in specs}
        assert options(command) | {"-V", "--version"} <= given
        for spec in specs:
            if spec == "-C":
                continue
            assert spec.count("[") == spec.count("]") == 1, spec
            value = spec.partition("]")[2]
            assert not value or value.startswith(":"), spec
    serve = run(shell, "-f", "-c", f"{STUBS}\nLINE=serve; _uwserve", cwd=tmp_path)
    assert ":log_level:(debug info warning error critical)" in serve
    assert "*--env-file[NAME=value lines for the environment" in serve
    assert ":tls_cert:_files\n" in serve
    assert ":reload_dir:_files -/\n" in serve
    assert "1:argument:(bash zsh fish)" in run(shell, "-f", "-c", f"{STUBS}\nLINE=completion; _uwserve", cwd=tmp_path)


def test_descriptions_need_no_quoting() -> None:
    """Whatever help says, no shell takes it apart."""
    parser = make_parser()
    command = parser.commands["serve"]
    command.add_argument("--odd", help='it\'s "odd" `date` $(date) [x]: 100%% é', metavar="FILE")
    for made, shell in ((bash, "bash"), (zsh, "zsh"), (fish, "fish")):
        found = shutil.which(shell)
        text = made(parser)
        assert "--odd" in text or "-l odd" in text
        if found is not None:
            done = subprocess.run(
                [found, "-n"], input=text, capture_output=True, text=True, timeout=DEADLINE, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(command, argparse.ArgumentParser)
