// The docstrings of Request's native attributes; style as in ws_docs.h.
#pragma once

namespace uwserve::docs {

constexpr char kRequest[] = R"(One HTTP request, complete with its body; what ``fetch`` and the handlers of routes get.

It may be kept, and is readable also after the connection has gone. Never made by hand.

Threads: any, but for ``tls``.

Bun: Request, of the Fetch standard, with the ``params`` of BunRequest.
)";

constexpr char kMethod[] = R"(The method as sent, a str such as "GET" (RFC 9110 section 9).

Bun: Request.method.
)";

constexpr char kUrl[] = R"(The absolute URL, a str: scheme ("https" on a TLS server), Host, path and query.

Bun: Request.url.
)";

constexpr char kTarget[] = R"(The request target as sent, a str: path and query (RFC 9112 section 3.2).

Bun: none; ours.
)";

constexpr char kPath[] = R"(The path, a str, still percent-encoded (RFC 3986 section 3.3).

Bun: none; new URL(request.url).pathname.
)";

constexpr char kQuery[] = R"(What follows "?", a str, still encoded; "" without one (RFC 3986 section 3.4).

Bun: none; new URL(request.url).search.
)";

constexpr char kHeaderItems[] = R"(The fields as a list of (name, value) pairs of str, in order of arrival.

Names are in lower case, values decoded as latin-1 (RFC 9110 section 5). ``headers`` is the same with look-up.

Bun: none; ours.
)";

constexpr char kHttpVersion[] = R"(The version of HTTP, a str: "1.1" or "1.0" (RFC 9112 section 2.3).

Bun: none; ours.
)";

constexpr char kBody[] = R"(The whole body as bytes; b"" without one.

Bun: Request.bytes(), without its promise.
)";

constexpr char kIsUpgrade[] =
    R"(True for a WebSocket handshake that ``server.upgrade()`` would accept (RFC 6455 section 4.2.1).

A bool; what has become of the request does not count.

Bun: none; ours.
)";

constexpr char kTls[] = R"(What TLS has agreed on, a dict; None without TLS.

Its keys are those of ``uwserve.types.TlsInfo``: version, cipher, server_name, alpn_protocol, peer_certificate (DER,
bytes or None), authorized, authorization_error and session_reused. Once the request was answered it is what it was when
first read, else None. RuntimeError on another thread than the server's.

Threads: the server's thread only.

Bun: none; ours.
)";

constexpr char kAnswered[] = R"(True once it was responded to or upgraded, or its client has gone; a bool.

Bun: none; ours.
)";

constexpr char kParams[] = R"(The parameters of the route that matched: a dict of str to str, percent-decoded.

"/users/:id" gives "id", "/files/*" gives "*". Empty in ``fetch``.

Bun: BunRequest.params.
)";

}  // namespace uwserve::docs
