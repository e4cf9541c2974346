"""Every Bun spelling is there, is the same thing, and nothing is imported too early."""

import importlib.metadata
import subprocess
import sys
from typing import Any

import pytest

import uwserve
from uwserve import Headers, ReadyState, Server, ServerWebSocket, _bun_names
from uwserve._options.serve import SERVE
from uwserve._options.websocket import WEBSOCKET


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


IRREGULAR = {"request_ip": "requestIP", "pending_websockets": "pendingWebSockets", "get_list": "getAll"}


@pytest.mark.parametrize(
    "table",
    [
        SERVE.aliases,
        WEBSOCKET.aliases,
        _bun_names.SERVER_WEBSOCKET,
        _bun_names.SERVER,
        _bun_names.HEADERS,
    ],
)
def test_spelling(table: Any) -> None:
    for alias, name in table.items():
        assert alias == IRREGULAR.get(name, camel(name))


@pytest.mark.parametrize(("options", "table"), [(SERVE, SERVE.aliases), (WEBSOCKET, WEBSOCKET.aliases)])
def test_every_option_of_two_words_has_one(options: Any, table: Any) -> None:
    assert set(table.values()) == {name for name in options if "_" in name}


@pytest.mark.parametrize(
    ("cls", "table"),
    [
        (ServerWebSocket, _bun_names.SERVER_WEBSOCKET),
        (Server, _bun_names.SERVER),
        (Headers, _bun_names.HEADERS),
    ],
)
def test_members_are_the_same_descriptor(cls: type, table: Any) -> None:
    def descriptor(name: str) -> Any:
        return next(base.__dict__[name] for base in cls.__mro__ if name in base.__dict__)

    for alias, name in table.items():
        assert descriptor(alias) is descriptor(name)


BUN_SOCKET = """
    data readyState remoteAddress subscriptions binaryType send sendText sendBinary publish publishText publishBinary
    subscribe unsubscribe isSubscribed ping pong cork close terminate getBufferedAmount
"""
BUN_SERVER = """
    upgrade publish subscriberCount stop reload requestIP timeout pendingRequests pendingWebSockets url
"""


@pytest.mark.parametrize(("cls", "members"), [(ServerWebSocket, BUN_SOCKET), (Server, BUN_SERVER)])
def test_bun_members(cls: type, members: str) -> None:
    assert [name for name in members.split() if not hasattr(cls, name)] == []


def test_unknown_member() -> None:
    with pytest.raises(AttributeError, match="Headers has no member 'nothing'"):
        _bun_names.install(Headers, {"x": "nothing"})


def test_ready_states() -> None:
    assert [(state.name, int(state)) for state in ReadyState] == [
        ("CONNECTING", 0),
        ("OPEN", 1),
        ("CLOSING", 2),
        ("CLOSED", 3),
    ]


def test_exports() -> None:
    for name in uwserve.__all__:
        assert getattr(uwserve, name) is not None
    assert uwserve.__version__ == importlib.metadata.version("uwserve")


def test_import_is_lean() -> None:
    """What only some programs need is imported when they need it."""
    code = (
        "import sys; before = set(sys.modules); import uwserve; "
        "print(*sorted({'asyncio', 'json', 'logging', 'inspect', 'signal', 'socket'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_path(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def _with_path(code: str) -> str:
    # Without site, whose .pth files import whatever they like; the package is found where this process found it.
    root = uwserve.__path__[0].rpartition("/")[0]
    return f"import sys; sys.path.append({root!r}); {code}"
