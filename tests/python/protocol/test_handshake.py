"""The opening handshake: what upgrades, what does not, what the 101 says (RFC 6455 section 4; defects H7, H12)."""

from __future__ import annotations

import pytest
from ws_client import ACCEPT, BINARY, CLOSE, KEY, PONG, TEXT, Client, Frame, close_frame, frame, handshake

import uwserve

pytestmark = pytest.mark.wss


@pytest.fixture
def deciding(serving):
    """A server that answers with what ``upgrade`` returned when it was not True."""

    def fetch(request, server):
        return None if server.upgrade(request) else uwserve.Response("False")

    return serving(fetch=fetch, message=lambda ws, message: ws.send(message))


def ask(live, head: bytes):
    client = live.connect(upgrade=False)
    client.send_raw(head)
    return client, client.read_answer()


@pytest.mark.parametrize(
    "replace",
    [
        {},
        {"upgrade": "WebSocket"},
        {"upgrade": "h2c, websocket"},
        {"upgrade": "websocket , foo/1"},
        {"connection": "keep-alive, Upgrade"},
        {"connection": "UPGRADE"},
        {"connection": "keep-alive,upgrade,foo"},
        {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"sec-websocket-key": "++++//////9876543210zw=="},
    ],
)
def test_accepted(deciding, replace):
    """Token lists are searched without regard to case (H7)."""
    client, answer = ask(deciding, handshake(replace=replace))
    assert answer.status == 101
    assert answer.get("upgrade").lower() == "websocket"
    assert answer.get("connection").lower() == "upgrade"
    assert answer.get("sec-websocket-protocol") is None
    assert answer.get("sec-websocket-extensions") is None
    client.send("x")
    assert client.read_message() == "x"


def test_accept_key(deciding):
    """The example of RFC 6455 section 1.3."""
    assert ask(deciding, handshake(key=KEY))[1].get("sec-websocket-accept") == ACCEPT


@pytest.mark.parametrize(
    "head",
    [
        handshake(drop=("upgrade",)),
        handshake(drop=("connection",)),
        handshake(drop=("sec-websocket-key",)),
        handshake(replace={"upgrade": "websockets"}),
        handshake(replace={"upgrade": "h2c"}),
        handshake(replace={"connection": "keep-alive"}),
        handshake(replace={"connection": "Upgraded"}),
        handshake(key=""),
        handshake(key="short"),
        handshake(key="A" * 24),
        handshake(key="AAAAAAAAAAAAAAAAAAAAA==="),
        handshake(key="AAAAAAAAAAAAAAAAAAAA!A=="),
        handshake(key="AAAAAAAAAAAAAAAAAAAAAAA=A"),
        handshake(key="AAAAAAAAAAAAAAAAAAAAAAAAAA=="),
        handshake(extra=(("Sec-WebSocket-Key", KEY),)),
        handshake(method="POST"),
        handshake(method="POST", extra=(("Content-Length", "0"),)),
        handshake(method="PUT"),
        handshake(version="HTTP/1.0"),
    ],
)
def test_not_a_handshake(deciding, head):
    """Not a WebSocket request: upgrade() is False and the request is answered as any other (H7)."""
    _, answer = ask(deciding, head)
    assert (answer.status, answer.body) == (200, b"False")
    deciding.no_events()


@pytest.mark.parametrize("version", ["8", "12", "14", "0", "", "013", "13, 8", "x"])
def test_wrong_version(deciding, version):
    """426 with the version we speak (RFC 6455 section 4.4, H7); upgrade() was False and its return value not needed."""
    _, answer = ask(deciding, handshake(replace={"sec-websocket-version": version}))
    assert answer.status == 426
    assert answer.get_all("sec-websocket-version") == ["13"]
    deciding.no_events()


def test_missing_version(deciding):
    assert ask(deciding, handshake(drop=("sec-websocket-version",)))[1].status == 426


def test_not_upgraded_connection_goes_on(deciding):
    """A request that is no handshake leaves the connection usable, also for a handshake after it."""
    client, answer = ask(deciding, handshake(drop=("upgrade",)))
    assert answer.body == b"False"
    client.send_raw(handshake())
    assert client.read_answer().status == 101
    client.send("hello")
    assert client.read_message() == "hello"


def test_without_websocket_option():
    """serve() without ``websocket``: upgrade() is False."""
    with uwserve.serve(
        port=0, hostname="127.0.0.1", fetch=lambda request, server: str(server.upgrade(request))
    ) as server:
        server.start()
        with Client(("127.0.0.1", server.port), upgrade=False) as client:
            client.send_raw(handshake())
            assert client.read_answer().body == b"False"


# --- headers, data, protocol ---


@pytest.mark.parametrize("kind", [dict, list, tuple, uwserve.Headers])
def test_custom_headers(serving, kind):
    """Headers go into the 101; several Set-Cookie are kept."""
    pairs = [("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")]
    given = dict(pairs) if kind is dict else kind(pairs)
    live = serving(fetch=lambda request, server: server.upgrade(request, headers=given) and None)
    _, answer = ask(live, handshake())
    assert answer.status == 101
    assert answer.get("x-one") == "1"
    assert answer.get_all("set-cookie") == (["b=2; Path=/"] if kind is dict else ["a=1", "b=2; Path=/"])


BAD_HEADERS = [
    ({"X-A": "a\r\nX-B: b"}, ValueError),
    ({"X-A": "a\nb"}, ValueError),
    ({"X-A": "a\0b"}, ValueError),
    ({"X-A\r\nX-B": "b"}, ValueError),
    ({"X A": "b"}, ValueError),
    ({"": "b"}, ValueError),
    ({"Upgrade": "h2c"}, ValueError),
    ({"CONNECTION": "close"}, ValueError),
    ({"Sec-WebSocket-Accept": "x"}, ValueError),
    ({"sec-websocket-extensions": "permessage-deflate"}, ValueError),
    ({"X-A": 1}, TypeError),
    ({1: "a"}, TypeError),
    ({"X-A": None}, TypeError),
    (5, TypeError),
    ("X-A: b", TypeError),
    ([("X-A",)], TypeError),
    ([("X-A", "b", "c")], TypeError),
    ([5], TypeError),
]


@pytest.mark.parametrize(("headers", "error"), BAD_HEADERS, ids=[str(i) for i in range(len(BAD_HEADERS))])
def test_bad_headers(serving, headers, error):
    """H12: nothing injected, nothing of the protocol's own overridden; the request is still open afterwards."""
    raised = []

    def fetch(request, server):
        try:
            server.upgrade(request, headers=headers)
        except (TypeError, ValueError) as exc:
            raised.append(exc)
        assert server.upgrade(request, headers=[])

    live = serving(fetch=fetch)
    client, answer = ask(live, handshake())
    assert answer.status == 101
    assert [type(exc) for exc in raised] == [error]
    assert str(raised[0])
    client.expect_silence()


def test_data(serving):
    """``data`` becomes ws.data; None without it; any value."""
    marker = object()
    live = serving(fetch=lambda request, server: server.upgrade(request, data=marker) and None)
    assert live.open()[1].data is marker
    live = serving(fetch=lambda request, server: server.upgrade(request) and None)
    ws = live.open()[1]
    assert ws.data is None
    ws.data = [1]
    assert ws.data == [1]


@pytest.mark.parametrize(
    ("spoken", "offered", "selected"),
    [
        ((), "chat", ""),
        (("chat",), "", ""),
        (("chat",), "superchat, chat", "chat"),
        (("b", "a"), "a, b", "b"),
        (("a",), "A", ""),
        (["v2.x", "v1"], "v1,v2.x", "v2.x"),
    ],
)
def test_protocols(serving, spoken, offered, selected):
    """The first of the server's that the client offers; never one that was not offered."""
    live = serving(protocols=spoken)
    extra = (("Sec-WebSocket-Protocol", offered),) if offered else ()
    client, ws = live.open(extra=extra)
    assert ws.protocol == selected
    assert client.answer.get_all("sec-websocket-protocol") == ([selected] if selected else [])


def test_protocols_in_two_fields(serving):
    client, ws = serving(protocols=("b",)).open(
        extra=(("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b"))
    )
    assert ws.protocol == client.answer.get("sec-websocket-protocol") == "b"


def test_protocol_argument(serving):
    """An explicit protocol wins over the option, and must have been offered."""
    raised = []

    def fetch(request, server):
        for wrong, error in (("c", ValueError), (5, TypeError), ("\udc80", ValueError)):
            with pytest.raises(error) as caught:
                server.upgrade(request, protocol=wrong)
            raised.append(caught.value)
        server.upgrade(request, protocol="b")

    client, ws = serving(fetch=fetch, protocols=("a",)).open(extra=(("Sec-WebSocket-Protocol", "a, b"),))
    assert ws.protocol == client.answer.get("sec-websocket-protocol") == "b"
    assert len(raised) == 3


# --- what happens inside upgrade() ---


def test_open_runs_inside_upgrade(serving):
    """open() runs before upgrade() returns True; what it sends follows the 101; fetch's value is ignored."""
    order = []

    def fetch(request, server):
        order.append("fetch")
        order.append(server.upgrade(request, data="d"))
        order.append(request.answered)
        return uwserve.Response("ignored", 500)

    def opened(ws):
        order.append(("open", ws.data, ws.ready_state, ws.send("first")))

    live = serving(fetch=fetch, open=opened)
    client = live.connect()
    assert client.read_message() == "first"
    assert order == ["fetch", ("open", "d", 1, 5), True, True]
    client.round_trip()
    client.expect_silence()


def test_twice(serving):
    """The second upgrade() of a request is False, also later, and disturbs nothing."""
    kept = []

    def fetch(request, server):
        kept.extend([request, server.upgrade(request), server.upgrade(request)])

    live = serving(fetch=fetch, message=lambda ws, message: ws.send(message))
    client = live.connect()
    client.send("a")
    assert client.read_message() == "a"
    assert kept[1:] == [True, False]
    assert live.on_loop(live.server.upgrade, kept[0]) is False
    client.round_trip()


def test_after_an_answer(serving):
    """An answered request cannot be upgraded."""
    kept = []

    def fetch(request, server):
        kept.append(request)
        return "answered"

    live = serving(fetch=fetch)
    client, answer = ask(live, handshake())
    assert (answer.status, answer.body) == (200, b"answered")
    assert live.on_loop(live.server.upgrade, kept[0]) is False
    live.no_events()
    client.close()


def test_wrong_arguments(serving):
    """upgrade() of what is no request, or of another server's."""
    kept = []

    def fetch(request, server):
        kept.append(request)
        for call in (
            lambda: server.upgrade(),
            lambda: server.upgrade(None),
            lambda: server.upgrade("GET /"),
            lambda: server.upgrade(request, nonsense=1),
        ):
            with pytest.raises(TypeError):
                call()
        return "ok"

    first, second = serving(fetch=fetch), serving()
    assert ask(first, handshake())[1].body == b"ok"
    with pytest.raises(ValueError, match="another server"):
        second.on_loop(second.server.upgrade, kept[0])


# --- frames in the segment of the handshake (L13) ---

BEHIND = frame(TEXT, "first") + frame(BINARY, b"\x00" * 300) + frame(9, b"pi") + frame(TEXT, "last")


def read_behind(client):
    assert client.read_message() == "first"
    assert client.read_message() == b"\x00" * 300
    assert client.read_frame() == Frame(PONG, b"pi")
    assert client.read_message() == "last"


def test_frames_behind_the_handshake(echo):
    """L13: what arrives in one segment with the handshake is delivered, once."""
    client = echo.connect(behind=BEHIND)
    read_behind(client)
    client.round_trip()
    assert [echo.expect(name)[0] is not None for name in ("open", "message", "message", "ping", "message", "ping")]
    echo.no_events()


def test_handshake_split_at_every_byte(echo):
    """H1, L13: the handshake and what follows may be cut anywhere."""
    data = handshake() + frame(TEXT, "first") + frame(TEXT, "last")
    for cut in range(1, len(data)):
        client = echo.connect(upgrade=False)
        client.send_raw(data[:cut])
        # The first part must have been read on its own: a round trip on another connection orders them.
        echo.on_loop(lambda: None)
        client.send_raw(data[cut:])
        assert client.read_answer().status == 101, cut
        assert client.read_messages(2) == ["first", "last"], cut
        client.close()


def test_handshake_byte_by_byte(echo):
    client = echo.connect(upgrade=False)
    for byte in handshake(extra=(("X-Long", "v" * 300),)) + BEHIND:
        client.send_raw(bytes([byte]))
    assert client.read_answer().status == 101
    read_behind(client)


@pytest.mark.parametrize("size", [15000, 12000, 4096, 1024])
def test_large_head(echo, size):
    """H3: a head of any size up to the limit works in one piece and in two."""
    head = handshake(extra=(("X-Large", "v" * size),))
    for cut in (len(head), len(head) // 2, len(head) - 1, 100):
        client = echo.connect(upgrade=False)
        client.send_raw(head[:cut])
        echo.on_loop(lambda: None)
        client.send_raw(head[cut:] + frame(TEXT, "x"))
        assert client.read_answer().status == 101, (size, cut)
        assert client.read_message() == "x"
        client.close()


def test_many_fields(echo):
    """H2: more fields than upstream's parser takes, with '_' and '.' in their names."""
    extra = tuple((f"X_{i}.y", str(i)) for i in range(90))
    client = echo.connect(extra=extra, behind=frame(TEXT, "x"))
    assert client.read_message() == "x"


@pytest.mark.parametrize("behind", [close_frame(1000, "bye"), close_frame(), frame(CLOSE, b"\x03\xe8bye") + b"junk"])
def test_close_behind_the_handshake(echo, behind):
    client = echo.connect(behind=behind)
    code = client.read_close()[0]
    client.expect_end()
    echo.expect("open")
    assert echo.expect_close()[0] == code


BROKEN = [(frame(TEXT, b"\xff"), 1007), (frame(11), 1002), (frame(TEXT, rsv=2), 1002)]


@pytest.mark.parametrize(("behind", "code"), BROKEN)
def test_broken_frame_behind_the_handshake(echo, behind, code):
    client = echo.connect(behind=behind)
    assert client.read_close()[0] == code
    client.expect_end()
    echo.expect("open")
    assert echo.expect_close()[0] == code


def test_partial_frame_behind_the_handshake(echo):
    whole = frame(TEXT, "x" * 200)
    for cut in (1, 2, 3, 4, 7, 8, 9, 100, len(whole) - 1):
        client = echo.connect(behind=whole[:cut])
        client.send_raw(whole[cut:])
        assert client.read_message() == "x" * 200, cut
        client.close()


def test_megabytes_behind_the_handshake(echo):
    """L13: also when far more than one segment follows at once."""
    data = bytes(range(256)) * 4096
    client = echo.connect(upgrade=False)
    client.send_raw(handshake() + frame(BINARY, data) + frame(TEXT, "end"))
    assert client.read_answer().status == 101
    assert client.read_message() == data
    assert client.read_message() == "end"


@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_client_leaves_with_the_handshake(echo, ending):
    """A client that has gone when its handshake is read: open and close both run, once."""
    client = echo.connect(upgrade=False)
    client.send_raw(handshake())
    if ending == "fin":
        client.finish()
    else:
        client.reset()
        echo.on_loop(lambda: None)
        if echo.server.pending_websockets == 0 and echo.events.empty():
            return  # the reset overtook the request: nothing was seen, nothing is called
    echo.expect("open")
    assert echo.expect_close() == (1006, "")
