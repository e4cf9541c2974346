"""What the handshake answers to offers of permessage-deflate (RFC 7692 section 7.1; RFC 6455 section 9.1)."""

from __future__ import annotations

import pytest
from ws_client import Client

pytestmark = pytest.mark.wss

DEFLATE = "permessage-deflate"
SHARED = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
DEDICATED = {"compress": "dedicated", "decompress": "dedicated"}


def both(size):
    return {"compress": size, "decompress": size}


def answers(live, *offers, agent=None):
    """The value of the answer's Sec-WebSocket-Extensions, None without one."""
    extra = [("Sec-WebSocket-Extensions", offer) for offer in offers]
    if agent:
        extra.append(("User-Agent", agent))
    client = live.connect(extra=tuple(extra))
    assert len(client.answer.get_all("sec-websocket-extensions")) <= 1
    return client.answer.get("sec-websocket-extensions")


@pytest.fixture
def ask(serving):
    """``ask(option, *offers)``: the answer of a server with that option."""

    def run(option, *offers, agent=None):
        return answers(serving(per_message_deflate=option), *offers, agent=agent)

    return run


WINDOWS = range(8, 16)


@pytest.mark.parametrize(
    ("option", "offer", "answer"),
    [
        (True, "", SHARED),
        (True, "; client_no_context_takeover", SHARED),
        (True, "; server_no_context_takeover", SHARED),
        (True, "; server_no_context_takeover; client_no_context_takeover", SHARED),
        (True, "; client_max_window_bits", SHARED),
        *((True, f"; client_max_window_bits={bits}", SHARED) for bits in WINDOWS),
        *((True, f"; server_max_window_bits={bits}", None) for bits in range(8, 15)),
        (True, "; server_max_window_bits=15", SHARED + "; server_max_window_bits=15"),
        (DEDICATED, "", DEFLATE),
        (DEDICATED, "; client_max_window_bits", DEFLATE),
        (DEDICATED, "; client_max_window_bits=15", DEFLATE),
        *((DEDICATED, f"; client_max_window_bits={n}", f"{DEFLATE}; client_max_window_bits={n}") for n in range(8, 15)),
        *((DEDICATED, f"; server_max_window_bits={n}", f"{DEFLATE}; server_max_window_bits={n}") for n in WINDOWS),
        (DEDICATED, "; client_no_context_takeover", f"{DEFLATE}; client_no_context_takeover"),
        (DEDICATED, "; server_no_context_takeover", f"{DEFLATE}; server_no_context_takeover"),
        (
            DEDICATED,
            "; server_no_context_takeover; server_max_window_bits=9",
            f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=9",
        ),
        # The sizes of a dedicated compressor are windows; a client that cannot be limited is asked to keep nothing.
        (both("3KB"), "", f"{DEFLATE}; client_no_context_takeover; server_max_window_bits=9"),
        (both("3KB"), "; client_max_window_bits", f"{DEFLATE}; client_max_window_bits=11; server_max_window_bits=9"),
        (both("4KB"), "; client_max_window_bits", f"{DEFLATE}; client_max_window_bits=12; server_max_window_bits=9"),
        (both("8KB"), "; client_max_window_bits", f"{DEFLATE}; client_max_window_bits=13; server_max_window_bits=10"),
        (both("8KB"), "; client_max_window_bits=8", f"{DEFLATE}; client_max_window_bits=8; server_max_window_bits=10"),
        (both("8KB"), "; server_max_window_bits=9", f"{DEFLATE}; client_no_context_takeover; server_max_window_bits=9"),
        (both("16KB"), "; client_max_window_bits", f"{DEFLATE}; client_max_window_bits=14; server_max_window_bits=11"),
        (both("32KB"), "", f"{DEFLATE}; server_max_window_bits=12"),
        (both("64KB"), "", f"{DEFLATE}; server_max_window_bits=13"),
        (both("128KB"), "", f"{DEFLATE}; server_max_window_bits=14"),
        (both("256KB"), "", DEFLATE),
        # Mixed, and one direction off: the other still needs the extension.
        ({"compress": "dedicated", "decompress": "shared"}, "", f"{DEFLATE}; client_no_context_takeover"),
        ({"compress": "shared", "decompress": "dedicated"}, "", f"{DEFLATE}; server_no_context_takeover"),
        ({"compress": "shared", "decompress": "dedicated"}, "; server_max_window_bits=10", None),
        ({"compress": "disable"}, "", SHARED),
        ({"compress": False}, "; server_max_window_bits=8", SHARED + "; server_max_window_bits=8"),
        ({"decompress": "disable"}, "", SHARED),
        (False, "", None),
        ({"compress": "disable", "decompress": False}, "", None),
    ],
)
def test_answers(ask, option, offer, answer):
    assert ask(option, DEFLATE + offer) == answer


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
def test_what_is_declined(serving, option):
    """Each by itself; and with a good offer behind it, which is taken then."""
    live = serving(per_message_deflate=option)
    good = SHARED if option is True else DEFLATE
    for params in (
        "unknown",
        "unknown=1",
        "server_no_context_takeover=1",
        'client_no_context_takeover=""',
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=99",
        "server_max_window_bits=015",
        "server_max_window_bits=-8",
        "server_max_window_bits=8x",
        "server_max_window_bits=1 5",
        "server_max_window_bits=15; server_max_window_bits=15",
        "client_max_window_bits=0",
        "client_max_window_bits=08",
        "client_max_window_bits=16",
        "client_max_window_bits; client_max_window_bits=15",
        "client_no_context_takeover; client_no_context_takeover",
        "server_no_context_takeover; server_no_context_takeover",
        "Client_Max_Window_Bits",
        "client_max_window_bits; ",
        "; client_max_window_bits",
        "client max",
        "=15",
        "client_max_window_bits=15=15",
        'server_max_window_bits="15',
        'server_max_window_bits="1 5"',
        'server_max_window_bits="15"x',
    ):
        bad = f"{DEFLATE}; {params}"
        assert answers(live, bad) is None, params
        assert answers(live, bad, DEFLATE) == good, params
        if params.count('"') != 1:  # an open quote hides what follows in the same field
            assert answers(live, f"{bad}, {DEFLATE}") == good, params


@pytest.mark.parametrize(
    "offers",
    [
        ["permessage-bzip2, permessage-deflate"],
        ['permessage-bzip2; level=9; dict="a, permessage-deflate; x", permessage-deflate'],
        ["x-webkit-deflate-frame, permessage-deflate"],
        [",, ,permessage-deflate,"],
        ["permessage-bzip2", "permessage-deflate"],
        ["\tpermessage-deflate ;  client_max_window_bits  "],
        ['permessage-deflate;client_max_window_bits="10"'],
        ['permessage-deflate; client_max_window_bits="\\1\\0"'],
        ["permessage-deflate; client_max_window_bits = 10"],
        ["permessage-deflate; server_max_window_bits=9, permessage-deflate; client_max_window_bits"],
        ["???, permessage-deflate"],
        ['a="x\\", permessage-deflate; b", permessage-deflate'],
    ],
)
def test_what_is_found(ask, offers):
    assert ask(True, *offers) == SHARED


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-bzip2",
        "Permessage-Deflate",
        "permessage-deflatex",
        'x="permessage-deflate"',
        ",",
        "x-webkit-deflate-frame",
    ],
)
def test_what_is_not_an_offer(ask, offer):
    assert ask(True, offer) is None


def test_the_first_acceptable_offer_decides(ask):
    assert ask(DEDICATED, f"{DEFLATE}; server_max_window_bits=9, {DEFLATE}") == f"{DEFLATE}; server_max_window_bits=9"
    assert ask(DEDICATED, DEFLATE, f"{DEFLATE}; server_max_window_bits=9") == DEFLATE


SAFARI = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{} Safari/605.1.15"


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("15.0", None),
        ("15.3", None),
        ("15.3.1", None),
        ("15.4", SHARED),
        ("14.1.2", SHARED),
        ("16.1", SHARED),
        ("15.30", SHARED),
    ],
)
def test_safari(ask, version, answer):
    """On a Mac, 15.0 to 15.3 do not keep to client_no_context_takeover: they get no compression at all."""
    assert ask(True, DEFLATE, agent=SAFARI.format(version)) == answer


IOS = "Mozilla/5.0 ({}; CPU {}OS {} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) {}"


@pytest.mark.parametrize(
    "browser",
    [
        "Version/15.2 Mobile/15E148 Safari/604.1",
        "CriOS/97.0.4692.84 Mobile/15E148 Safari/604.1",
        "FxiOS/40.0 Mobile/15E148 Safari/605.1.15",
        "Version/15.0 EdgiOS/97.0.1072.80 Mobile/15E148 Safari/604.1",
        "GSA/190.0.420972023 Mobile/15E148 Safari/604.1",
        "Mobile/15E148",
        "Mobile/15E148 Instagram 217.0.0.15.118 (iPhone12,1; iOS 15_2; en_US; en-US; scale=2.00; 828x1792; 333717274)",
    ],
    ids=["Safari", "Chrome", "Firefox", "Edge", "Google", "WKWebView", "Instagram"],
)
@pytest.mark.parametrize(
    ("system", "answer"),
    [
        ("15_0", None),
        ("15_2", None),
        ("15_3_1", None),
        ("15_4", SHARED),
        ("15_4_1", SHARED),
        ("14_8_1", SHARED),
        ("16_2", SHARED),
        ("9_15_2", SHARED),
    ],
)
@pytest.mark.parametrize("device", [("iPhone", "iPhone "), ("iPad", "")], ids=["iPhone", "iPad"])
def test_every_browser_of_ios_is_the_same_engine(ask, device, system, answer, browser):
    """The system's version decides, whatever the browser calls itself."""
    agent = IOS.format(*device, system, browser.replace("15.2", "16.1") if answer else browser)
    assert ask(True, DEFLATE, agent=agent) == answer


@pytest.mark.parametrize(
    ("agent", "answer"),
    [
        ("Chatter/3 CFNetwork/1325.0.1 Darwin/21.1.0", None),
        ("Chatter/3 CFNetwork/1327.0.4 Darwin/21.2.0", None),
        ("Chatter/3 CFNetwork/1331.0.7 Darwin/21.4.0", SHARED),
        ("Chatter/3 CFNetwork/1240.0.4 Darwin/20.6.0", SHARED),
        ("Go-http-client/1.1 Darwin/21.2.0", SHARED),
        # WebKit of other systems, and other engines where WebKit once was.
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.0 Safari/605.1.15",
            SHARED,
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/97.0.4692.99 Safari/537.36",
            SHARED,
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:96.0) Gecko/20100101 Firefox/96.0", SHARED),
        (
            "Mozilla/5.0 (Linux; Android 12; SM-S901B) AppleWebKit/537.36 (KHTML, like Gecko) "
            "SamsungBrowser/15.0 Chrome/90.0.4430.210 Mobile Safari/537.36",
            SHARED,
        ),
        # Says neither its version nor the system's, so that nothing can be done for it.
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)", SHARED),
        ("", SHARED),
    ],
)
def test_no_other_engine_is_taken_for_it(ask, agent, answer):
    assert ask(True, DEFLATE, agent=agent) == answer


def test_no_offer_no_answer(ask):
    assert ask(True) is None


def test_reload_is_for_new_connections(serving):
    live = serving(message=lambda ws, m: ws.send(m, compress=True))
    plain, _ = live.open(extra=(("Sec-WebSocket-Extensions", DEFLATE),))
    assert plain.answer.get("sec-websocket-extensions") is None
    handlers = {"message": lambda ws, m: ws.send(m, compress=True)}
    live.on_loop(lambda: live.server.reload(websocket=live.recorded(handlers | {"per_message_deflate": True})))
    packed, _ = live.open(extra=(("Sec-WebSocket-Extensions", DEFLATE),))
    assert packed.answer.get("sec-websocket-extensions") == SHARED
    live.on_loop(lambda: live.server.reload(websocket=live.recorded(handlers)))
    for client, rsv in ((plain, 0), (packed, 4)):
        client.send("x" * 100)
        assert client.read_frame().rsv == rsv
        live.expect("message")


def test_a_handshake_cannot_set_the_field(serving):
    """The field is the protocol's: user code neither adds nor replaces it."""
    seen = []

    def fetch(request, server):
        try:
            server.upgrade(request, headers={"Sec-WebSocket-Extensions": "x"})
        except ValueError as exc:
            seen.append(str(exc))
        server.upgrade(request)

    live = serving(fetch=fetch, per_message_deflate=True)
    with Client(live.address, extra=(("Sec-WebSocket-Extensions", DEFLATE),)) as client:
        assert client.answer.get("sec-websocket-extensions") == SHARED
    assert seen
    live.expect("open")
