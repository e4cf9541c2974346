"""Every code block of README.md, CONTRIBUTING.md and docs/ is run, or checked by what reads its language.

Python runs in a process of its own with real clients (docs_runner.py). A block that cannot run here says why, in a
comment above it, and shows up as skipped with that reason. A block without a language fails.
"""

from __future__ import annotations

import configparser
import html.parser
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from docs_blocks import Block, blocks, every_block, pages
from paths import PROGRAMS, ROOT
from processes import bare_environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

pytestmark = pytest.mark.plain("the servers run in processes of their own")

BLOCKS = every_block()
SECONDS = 60

# Commands of shell blocks that are there on a system and not ours; they are looked at, not run.
SYSTEM = {
    "apt-get", "bash", "caddy", "cat", "cd", "curl", "docker", "env", "export", "git", "haproxy", "install", "kill",
    "nginx", "pyinstaller", "openssl", "podman", "systemctl", "journalctl", "sysctl", "ulimit", "ss", "npm",
}  # fmt: skip
EXTRAS = re.compile(r"uwserve(?:\[([\w,]+)\])?(?:==[\w.]+)?")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run: with a certificate, its key and the authority that made it."""
    made = tmp_path_factory.mktemp("docs")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1", "example.com", "*.example.org")
    authority.cert_pem.write_to_path(made / "ca.pem")
    certificate.private_key_pem.write_to_path(made / "server.key")
    certificate.private_key_and_cert_chain_pem.write_to_path(made / "server.pem")
    return made


def test_every_page_has_its_blocks_read() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in pages()}
    assert {"README.md", "CONTRIBUTING.md", "docs/getting-started.md", "docs/coming-from/bun.md"} <= names
    assert len([block for block in BLOCKS if block.language == "python"]) > 30


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block(block: Block, folder: Path, tmp_path: Path) -> None:
    assert block.language, f"{block.name}: the block has no language; `text` is for output"
    assert block.language in CHECKS, f"{block.name}: nothing here checks {block.language!r}"
    for name in block.told.get("needs", "").split():
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{block.name}: {name} is not installed")
    if "not run" in block.told and block.language != "python":
        pytest.skip(f"{block.name}: {block.told['not run'].strip()}")
    CHECKS[block.language](block, folder, tmp_path)


# --- Python ---


def run_python(block: Block, folder: Path, tmp_path: Path) -> None:
    if reason := block.told.get("not run", "").strip():
        compile(block.text, block.name, "exec")
        pytest.skip(f"{block.name}: only compiled: {reason}")
    told = {"name": block.name, "code": block.text} | {
        kind: text for kind, text in block.told.items() if kind in ("setup", "client", "own client", "then")
    }
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NOTIFY_SOCKET": ""}
    runner = PROGRAMS / "docs_runner.py"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(runner)],
        input=json.dumps(told),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block.name}\n{done.stdout}\n{done.stderr}"


# --- the shell ---


def check_shell(block: Block, folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.name}: {done.stderr}"
    commands = block.text.replace("\\\n", " ").splitlines()
    for line in commands:
        for part in re.split(r"\s(?:&&|\|\||\||;)\s", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                check_command(block.name, words)


def check_command(where: str, words: list[str]) -> None:
    """That a command is there and takes these options; nothing is run but its help."""
    name, *rest = words
    if name == "make":
        targets = re.findall(r"^([\w-]+(?: [\w-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
        known = {target for names in targets for target in names.split()}
        for word in rest:
            assert "=" in word or word in known, f"{where}: make has no target {word!r}"
    elif name in ("pip", "python", "python3") or name.endswith("/python"):
        check_python(where, rest)
    elif name == "uwserve" or name.endswith("/uwserve"):
        check_uwserve(where, rest)
    elif name.startswith(".venv/"):
        requirements = (ROOT / "pyproject.toml").read_text()
        assert f'"{Path(name).name}' in requirements, f"{where}: {name} is installed by no extra"
    else:
        assert name in SYSTEM, f"{where}: unknown command {name!r}"


def check_python(where: str, rest: list[str]) -> None:
    if rest[:1] == ["-m"]:
        module = rest[1]
        if module == "uwserve":
            return check_uwserve(where, rest[2:])
        if module != "pip":
            assert importlib.util.find_spec(module), f"{where}: there is no module {module}"
            return None
        rest = rest[2:]
    if rest[:1] == ["install"]:
        with (ROOT / "pyproject.toml").open("rb") as file:
            extras = tomllib.load(file)["project"]["optional-dependencies"]
        for word in rest[1:]:
            match = EXTRAS.fullmatch(word)
            for extra in (match[1] or "").split(",") if match else ():
                assert not extra or extra in extras, f"{where}: there is no extra {extra!r}"
    elif rest and rest[0].endswith(".py") and "/" in rest[0]:
        assert (ROOT / rest[0]).is_file(), f"{where}: there is no {rest[0]}"
    return None


def check_uwserve(where: str, rest: list[str]) -> None:
    command = [rest[0]] if rest and not rest[0].startswith("-") else []
    done = subprocess.run(
        [sys.executable, "-m", "uwserve", *command, "--help"],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{where}: {done.stderr}"
    for word in rest:
        if word.startswith("--"):
            option = word.partition("=")[0]
            assert re.search(rf"{re.escape(option)}\b", done.stdout), f"{where}: uwserve {rest} has no {option}"


# --- other languages ---


def check_ini(block: Block, folder: Path, tmp_path: Path) -> None:
    """systemd's units: sections, keys, and with systemd here its own check of each key."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.text)
    assert parser.sections()
    known = {"Unit", "Service", "Socket", "Install"}
    assert set(parser.sections()) <= known, f"{block.name}: {parser.sections()}"
    assert all(parser.options(section) for section in parser.sections())


def check_json(block: Block, folder: Path, tmp_path: Path) -> None:
    json.loads(block.text)


def check_toml(block: Block, folder: Path, tmp_path: Path) -> None:
    tomllib.loads(block.text)


def check_yaml(block: Block, folder: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason=f"{block.name}: PyYAML is not installed")
    assert yaml.safe_load(block.text)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link", "input", "br", "img", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(block: Block, folder: Path, tmp_path: Path) -> None:
    tags = Tags()
    tags.feed(block.text)
    tags.close()
    assert tags.open in ([], ["html"], ["html", "body"])


def check_javascript(block: Block, folder: Path, tmp_path: Path) -> None:
    """Its grammar, by node; Bun is not needed for the tests."""
    node = shutil.which("node")
    if node is None:
        pytest.skip(f"{block.name}: no node here to check JavaScript")
    file = tmp_path / "block.mjs"
    file.write_text(block.text)
    command = [node, "--check", str(file)]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.name}: {done.stderr}"


DOCKER = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "EXPOSE", "USER", "CMD", "ENTRYPOINT", "STOPSIGNAL", "HEALTHCHECK"}


def check_dockerfile(block: Block, folder: Path, tmp_path: Path) -> None:
    """Instructions, their shell, and commands of ours in exec form. There is no container engine to build it with."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        assert instruction in DOCKER, f"{block.name}: {line}"
        if instruction == "RUN":
            done = subprocess.run(["sh", "-n"], input=rest, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.name}: {done.stderr}"
        if instruction in ("CMD", "ENTRYPOINT"):
            words = json.loads(rest)
            check_command(block.name, [Path(words[0]).name, *words[1:]])


def checked_by_proxies(block: Block, folder: Path, tmp_path: Path) -> None:
    """test_docs_proxies.py starts the proxy with this block; here only that it would find it."""
    assert block.told.get("config"), f"{block.name}: <!-- config: NAME --> must name it for test_docs_proxies.py"


def is_output(block: Block, folder: Path, tmp_path: Path) -> None:
    assert block.text.strip()


CHECKS = {
    "python": run_python,
    "sh": check_shell,
    "ini": check_ini,
    "json": check_json,
    "toml": check_toml,
    "yaml": check_yaml,
    "html": check_html,
    "js": check_javascript,
    "dockerfile": check_dockerfile,
    "nginx": checked_by_proxies,
    "caddyfile": checked_by_proxies,
    "haproxy": checked_by_proxies,
    "text": is_output,
}


# --- the checks themselves ---


def test_a_block_without_language_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```\ncode\n```\n")
    assert [block.language for block in blocks(page)] == [""]


def test_a_comment_must_belong_to_a_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- setup: x = 1 -->\n\nNo block.\n")
    with pytest.raises(ValueError, match="followed by text"):
        list(blocks(page))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "raise SystemExit(3)\n"),
        ("python", "from uwserve import serve\nserve(prot=1)\n"),
        ("python", "from uwserve import serve\nserve(fetch=lambda request: 1 / 0).run()\n"),
        ("sh", "make nothing-such\n"),
        ("sh", "uwserve echo --no-such-option\n"),
        ("sh", "if true; then\n"),
        ("sh", "pip install 'uwserve[nosuch]'\n"),
        ("ini", "[Nothing]\na=b\n"),
        ("json", "{"),
        ("dockerfile", "FORM python\n"),
    ],
)
def test_what_is_wrong_fails(language: str, text: str, folder: Path, tmp_path: Path) -> None:
    block = Block(ROOT / "README.md", 1, language, text)
    with pytest.raises((AssertionError, ValueError, configparser.Error)):
        CHECKS[language](block, folder, tmp_path)


SERVER = "serve(fetch=lambda request, server: server.upgrade(request), websocket={})\n"
# As on a machine on which the server's thread comes to its first turn late.
LATE = """
import threading, uwserve
start = uwserve.Server.start
uwserve.Server.start = lambda server: threading.Timer(0.5, start, [server]).start()
"""
NEVER = """
import __main__, uwserve
__main__.SECONDS = 0.5
uwserve.Server.start = lambda server: None
"""


@pytest.mark.parametrize(
    ("text", "told", "said"),
    [
        (SERVER, {"client": "assert 1 == 2, 'a wrong figure'"}, "a wrong figure"),
        (SERVER, {"client": "raise SystemExit(0)"}, "SystemExit"),
        (SERVER, {"client": "assert 1 == 2, 'a wrong figure'", "setup": LATE}, "a wrong figure"),
        (SERVER, {"setup": NEVER}, "nobody talked to it"),
        ("x = 1\n", {"client": "connect()"}, "made no server"),
        (SERVER, {"client": "connect()", "own client": ""}, "also its own"),
    ],
    ids=["fails", "ends", "fails late", "never runs", "no server", "two clients"],
)
def test_a_hidden_client_is_heard(text: str, told: dict[str, str], said: str, folder: Path, tmp_path: Path) -> None:
    block = Block(ROOT / "README.md", 1, "python", text, told)
    with pytest.raises(AssertionError, match=said):
        run_python(block, folder, tmp_path)
