"""``UWSERVE_*``, ``PORT``, ``HOST`` and ``--env-file``: options of ``uwserve serve``, and their precedence."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_client import DEADLINE, Client, request
from processes import Process, process
from ws_client import eventually

from uwserve._options.serve import SERVE
from uwserve.cli import environment, main
from uwserve.cli.errors import CommandError
from uwserve.cli.parser import make_parser

pytestmark = pytest.mark.plain("the servers run in processes of their own")

APP = """
import os
from uwserve import serve

def fetch(request, server):
    return {name: os.environ.get(name) for name in ("FROM_FILE", "SHARED")} | {
        "idle_timeout": server._control.options["idle_timeout"], "id": server.id, "development": server.development,
        "limits": server._control.options["limits"], "hostname": server.hostname,
        "trusted_proxies": len(server._control.options["trusted_proxies"]),
    }

says = {"fetch": fetch, "port": 0, "hostname": "127.0.0.1", "idle_timeout": 7}
silent = {"fetch": fetch}

def server():
    return serve(fetch=fetch, port=0, hostname="127.0.0.1")
"""


UNIX = """
import os, sys
os.environ |= {"UWSERVE_PORT": "1", "UWSERVE_HOST": "192.0.2.1", "UWSERVE_FD": "0", "PORT": "2"}
from uwserve.cli import main
sys.exit(main(["serve", "app:silent", "--unix", "s.sock"]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``serving(*arguments, NAME=value)``: what the server says about itself, its port, and its standard error."""

    def start(*arguments: str, **variables: str) -> tuple[dict[str, Any], int, str]:
        with monkeypatch.context() as patch:
            for name, text in variables.items():
                patch.setenv(name, text)
            run: Process
            with process(sys.executable, "-m", "uwserve", "serve", *arguments, cwd=folder) as run:
                port = run.port()
                with Client(port) as client:
                    told = client.ask(request("/")).json()
                run.child.send_signal(signal.SIGINT)
                code, _, errors = run.end()
                assert code == 0, errors
                return told, port, errors

    return start


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


def test_a_variable_is_an_option(serving: Any) -> None:
    told, _, errors = serving(
        "app:says",
        UWSERVE_IDLE_TIMEOUT="33",
        UWSERVE_ID="named",
        UWSERVE_DEVELOPMENT="yes",
        UWSERVE_LIMITS="max_connections=50, max_pending_heads=7",
        UWSERVE_TRUSTED_PROXIES="10.0.0.0/8,::1",
        UWSERVE_ACCESS_LOG="1",
        UWSERVE_LOG_LEVEL="info",
    )
    assert (told["idle_timeout"], told["id"], told["development"]) == (33, "named", True)
    assert told["limits"] == {"max_connections": 50, "max_pending_heads": 7}
    assert told["trusted_proxies"] == 2
    assert re.search(r'"GET /" 200', errors)


def test_what_is_nearer_to_the_call_wins(serving: Any) -> None:
    """An option, its variable, the application, PORT and HOST, the default."""
    flag, variable, port = free_port(), free_port(), free_port()
    assert serving("app:silent", PORT=port, HOST="127.0.0.1")[1] == int(port)
    assert serving("app:silent", PORT=port, HOST="127.0.0.1")[0]["hostname"] == "127.0.0.1"
    told, bound, _ = serving("app:says", PORT=port, HOST="0.0.0.0")
    assert bound != int(port)
    assert told["hostname"] == "127.0.0.1"
    assert serving("app:says", UWSERVE_PORT=variable, PORT=port)[1] == int(variable)
    assert serving("app:says", "--port", flag, UWSERVE_PORT=variable, PORT=port)[1] == int(flag)
    assert serving("app:says", "--idle-timeout", "9", UWSERVE_IDLE_TIMEOUT="8")[0]["idle_timeout"] == 9
    assert serving("app:says", UWSERVE_IDLE_TIMEOUT="8")[0]["idle_timeout"] == 8
    assert serving("app:says")[0]["idle_timeout"] == 7
    assert serving("app:says", "--no-development", UWSERVE_DEVELOPMENT="1")[0]["development"] is False


def test_another_place_on_the_command_line(folder: Path, serving: Any) -> None:
    """An option that says where to listen replaces variables that say another kind of place."""
    port = free_port()
    assert serving("app:silent", "--port", port, "--host", "127.0.0.1", UWSERVE_UNIX="s.sock")[1] == int(port)
    assert not (folder / "s.sock").exists()
    with process(sys.executable, "-c", UNIX, cwd=folder) as run:
        assert run.line().endswith(f"unix://{folder}/s.sock")
        run.child.send_signal(signal.SIGINT)
        assert run.end()[0] == 0


def test_an_empty_variable_is_none(serving: Any) -> None:
    assert serving("app:says", UWSERVE_IDLE_TIMEOUT="", UWSERVE_PORT="", PORT="", HOST="")[0]["idle_timeout"] == 7


def test_a_server_says_why_it_is_not_moved(folder: Path, serving: Any) -> None:
    """It is bound when the module is imported. Its other options can be changed; PORT is a remark only."""
    for name, text in (("UWSERVE_PORT", "1"), ("UWSERVE_HOST", "::1"), ("UWSERVE_REUSE_PORT", "1")):
        errors = ended(folder, "app:server", **{name: text})
        flag = "--" + name.removeprefix("UWSERVE_").replace("_", "-").lower()
        assert "is a Server, bound to http://127.0.0.1" in errors
        assert f"{flag} cannot move it" in errors
    told, port, errors = serving("app:server", UWSERVE_IDLE_TIMEOUT="11", PORT="4321")
    assert told["idle_timeout"] == 11
    assert port != 4321
    assert "PORT=4321 in the environment is not used: app:server is a Server" in errors


def ended(folder: Path, *arguments: str, code: int = 2, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "uwserve", "serve", *arguments],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"UWSERVE_PORT": "x"}, "UWSERVE_PORT in the environment: 'x' is not a number"),
        ({"UWSERVE_PORT": "65536"}, "UWSERVE_PORT in the environment: 65536 is not in 0..65535"),
        ({"UWSERVE_LOG_LEVEL": "loud"}, "UWSERVE_LOG_LEVEL='loud' in the environment is not one of debug, info"),
        ({"UWSERVE_RELOAD": "maybe"}, "UWSERVE_RELOAD='maybe' in the environment is neither true (1, yes, on) nor"),
        ({"UWSERVE_IDLE_TIMEOUT": "256"}, "--idle-timeout: idle_timeout must be in 0..255 seconds, got 256"),
        ({"UWSERVE_LIMITS": "max_connections"}, "UWSERVE_LIMITS in the environment: 'max_connections' is not NAME="),
        ({"UWSERVE_LIMITS": "max_conections=1"}, "did you mean 'max_connections'?"),
        ({"UWSERVE_UNIX": "a", "UWSERVE_PORT": "1"}, "--unix cannot be given together with --port"),
        ({"PORT": "http"}, "PORT='http' in the environment is not a port, 0 to 65535"),
        ({"UWSERVE_METRICS": "x"}, "UWSERVE_METRICS in the environment: 'x' is not a path"),
    ],
)
def test_a_wrong_variable_is_named(folder: Path, variables: dict[str, str], text: str) -> None:
    errors = ended(folder, "app:silent", **variables)
    assert text in errors
    assert len(errors.splitlines()) == 1


def test_a_misspelt_variable_is_told(serving: Any) -> None:
    errors = serving("app:says", UWSERVE_PROT="1", UWSERVE_SOMETHING_ELSE="1")[2]
    assert "UWSERVE_PROT in the environment is no option of uwserve serve; did you mean UWSERVE_PORT?" in errors
    assert "SOMETHING_ELSE" not in errors


def test_files(folder: Path, serving: Any) -> None:
    """For options and for the application; what the environment has already wins, and a later file does."""
    (folder / "one.env").write_text("UWSERVE_ID=one\nFROM_FILE='a # b'\nSHARED=file\n")
    (folder / "two.env").write_text("# a comment\nexport UWSERVE_ID=two\n")
    told, _, _ = serving("app:says", "--env-file", "one.env", "--env-file", "two.env", SHARED="environment")
    assert (told["FROM_FILE"], told["SHARED"], told["id"]) == ("a # b", "environment", "two")
    assert serving("app:says", "--env-file", "one.env", UWSERVE_ID="environment")[0]["id"] == "environment"
    assert serving("app:says", "--env-file", "one.env", "--id", "option")[0]["id"] == "option"


def test_the_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.env"
    path.write_text(
        "\n# comment\nPLAIN=a b\nSPACES =  x  \nHASH=a#b\nREMARK=a # b\nEMPTY=\nSINGLE='a\\nb'\n"
        'DOUBLE="a\\nb \\"c\\" \\\\n"  # remark\nexport EXPORTED=1\nEQUALS=a=b\nPLAIN=last\n'
    )
    assert environment.read_files([str(path)]) == {
        "PLAIN": "last",
        "SPACES": "x",
        "HASH": "a#b",
        "REMARK": "a",
        "EMPTY": "",
        "SINGLE": r"a\nb",
        "DOUBLE": 'a\nb "c" \\n',
        "EXPORTED": "1",
        "EQUALS": "a=b",
    }
    for line in ("no equals sign", "1X=1", "=x", "A B=1", 'X="open', "X='a' b"):
        path.write_text(f"OK=1\n{line}\n")
        with pytest.raises(CommandError, match="line 2: "):
            environment.read_files([str(path)])
    path.write_bytes(b"A=\xff")
    for wrong in (str(path), str(tmp_path / "nowhere.env"), str(tmp_path)):
        with pytest.raises(CommandError, match="--env-file"):
            environment.read_files([wrong])


def test_every_option_has_a_variable_and_no_two_the_same() -> None:
    command = make_parser().commands["serve"]
    named = {action.dest: environment.variable(action) for action in command._actions if action.option_strings}
    assert named.pop("help") is None
    assert named.pop("env_file") is None
    assert all(named.values())
    assert len(set(named.values())) == len(named)
    assert (named["port"], named["host"]) == ("UWSERVE_PORT", "UWSERVE_HOST")


def test_every_option_of_serve_that_a_line_can_give_is_one_of_the_command() -> None:
    dests = {action.dest for action in make_parser().commands["serve"]._actions}
    for name, default in SERVE.defaults().items():
        if default is not None:
            assert {"hostname": "host"}.get(name, name) in dests, f"{name} has no line of help"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-V", "--version"):
        with pytest.raises(SystemExit, match="0"):
            main([flag])
        assert re.fullmatch(r"uwserve \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_reload_reads_the_file_anew(folder: Path) -> None:
    pytest.importorskip("watchfiles", reason="--reload needs the extra")
    (folder / "a.env").write_text("UWSERVE_ID=first\n")
    command = [sys.executable, "-m", "uwserve", "serve", "app:says", "--reload", "--env-file", "a.env"]
    with process(*command, cwd=folder) as run:
        port = run.port()

        def id_of_the_server() -> str:
            with Client(port) as client:
                return str(client.ask(request("/")).json()["id"])

        assert id_of_the_server() == "first"
        (folder / "a.env").write_text("UWSERVE_ID=second\n")
        (folder / "app.py").write_text(APP + "\n# changed\n")
        eventually(lambda: id_of_the_server() == "second")
