"""``unix_mode``: the permission bits of a unix socket, there before anybody can connect."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from http_client import Client, bound, running
from processes import process

from uwserve import serve
from uwserve._options.serve import serve_options

pytestmark = pytest.mark.plain("addresses, not what goes over them")

UWSERVE = Path(sys.executable).with_name("uwserve")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def options(**given: Any) -> dict[str, Any]:
    return serve_options({"unix": "s", **given})


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o222])
def test_the_bits(tmp_path: Path, mode: int) -> None:
    """Whatever the umask is, which stays as it was."""
    path = tmp_path / "s"
    before = os.umask(0o027)
    try:
        with running(fetch=lambda request: "ok", unix=path, unix_mode=mode), Client(str(path)) as client:
            assert mode_of(path) == mode
            assert client.ask().body == b"ok"
        with bound(unix=path):
            assert mode_of(path) == 0o750, "without it, what the umask leaves"
        assert os.umask(before) == 0o027
    finally:
        os.umask(before)


def test_nobody_sees_another_mode(tmp_path: Path) -> None:
    """The path appears with its permissions, also where it replaces one that was left over."""
    path = tmp_path / "s"
    seen: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for name in os.listdir(tmp_path):
                if name == path.name:
                    try:
                        seen.add(mode_of(path))
                    except FileNotFoundError:
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(200):
            with bound(unix=path, unix_mode=0o660):
                pass
    finally:
        ended.set()
        watcher.join()
    assert seen <= {0o660}


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (660, r"unix_mode must be permission bits of at most 0o777, not 660 \(octal: 0o660\)"),
        (777, r"octal: 0o777"),
        (0o1777, r"of at most 0o777"),
        (9999, r"at most 0o777, got 0o23417"),
        (-1, r"unix_mode must be in 0\.\."),
        (0, r"unix_mode must let somebody write"),
        (0o555, r"unix_mode must let somebody write, .* got 0o555"),
    ],
)
def test_values_out_of_range(mode: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        options(unix_mode=mode)


@pytest.mark.parametrize("mode", ["0660", "660", 6.6, True, b"x", [6]])
def test_values_of_wrong_types(mode: Any) -> None:
    with pytest.raises(TypeError, match="unix_mode must be an int, got"):
        options(unix_mode=mode)


def test_what_goes_together() -> None:
    assert options(unix_mode=None)["unix_mode"] is None
    assert options(unixMode=0o660)["unix_mode"] == 0o660
    with pytest.raises(ValueError, match="unix_mode needs unix"):
        serve_options({"unix_mode": 0o660})
    with pytest.raises(ValueError, match="abstract name has no permissions"):
        options(unix="\0name", unix_mode=0o660)
    with pytest.raises(TypeError, match="fd and unix_mode cannot both be given"):
        serve_options({"fd": 3, "unix_mode": 0o660})
    with bound() as server, pytest.raises(ValueError, match=r"reload\(\) cannot change unix_mode"):
        server.reload(unix_mode=0o660)  # type: ignore[call-arg]


def test_a_refused_mode_binds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unix_mode"):
        serve(unix=tmp_path / "s", unix_mode=0o1000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["--reload"]], ids=["once", "reloading"])
def test_on_the_command_line(tmp_path: Path, arguments: list[str]) -> None:
    if arguments:
        pytest.importorskip("watchfiles", reason="watchfiles is not installed (pip install 'uwserve[reload]')")
    (tmp_path / "app.py").write_text("options = {'fetch': lambda request: 'ok', 'unix_mode': 0o600}\n")
    path = tmp_path / "s"
    for given, mode in ((["--unix-mode", "660"], 0o660), ([], 0o600)):
        with process(UWSERVE, "serve", "app:options", "--unix", "s", *given, *arguments, cwd=tmp_path) as run:
            run.line()
            assert mode_of(path) == mode
            with Client(str(path)) as client:
                assert client.ask().body == b"ok"
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--unix", "s", "--unix-mode", "x"], "'x' is not an octal number, such as 660"),
        (["--unix", "s", "--unix-mode", "999"], "'999' is not an octal number, such as 660"),
        (["--unix", "s", "--unix-mode", "1777"], "of at most 0o777"),
        (["--port", "0", "--unix-mode", "660"], "--unix-mode cannot be given together with --port or --host"),
        (["--fd", "3", "--unix-mode", "660"], "--fd cannot be given together with"),
        (["--unix-mode", "660"], "unix_mode needs unix"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    with process(UWSERVE, "echo", *arguments, cwd=tmp_path) as run:
        _, errors = run.child.communicate(timeout=60)
        assert text in " ".join((errors.decode() if isinstance(errors, bytes) else errors).split())
        assert run.child.returncode in (1, 2)
