// The docstrings of what Server has from its native half, with the text signatures that inspect.signature() reads;
// style as in ws_docs.h. Methods bound by pybind11 name `self` without "$", which would mean that it is bound already.
#pragma once

namespace uwserve::docs {

constexpr char kClassGetItem[] = R"(__class_getitem__($type, item, /)
--

The class with the type of ``data`` in brackets, for annotations; a types.GenericAlias (PEP 585).
)";

constexpr char kServerCore[] = R"(The native half of a server; ``uwserve.Server`` derives from it.)";

constexpr char kTlsConfig[] = R"(A checked TLS configuration; made by uwserve's facade from ``serve(tls=...)``.)";

constexpr char kUpgrade[] = R"(upgrade($self, request, options={}, /, *, headers=None, data=None, protocol=None)
--

Accept a WebSocket handshake: the socket opens, and its ``open`` handler runs inside this call.

After it returned True, what ``fetch`` returns is ignored. It works after any number of awaits; what the client sends
meanwhile is kept.

Args:
    request: the ``Request`` that a handler of this server got.
    options: the three that follow in one dict, as in Bun: ``upgrade(request, {"data": ...})``.
    headers: fields for the 101 response: a mapping, ``Headers``, or pairs of str (pairs keep several Set-Cookie).
    data: becomes ``ws.data``; anything.
    protocol: the subprotocol to select, one that the client offered; "" for none. Without it, the first one that was
        offered is selected from a Sec-WebSocket-Protocol in ``headers``, else from the option ``protocols``. Without
        that option, the first that the client offers is selected.

Returns:
    True when the socket is open. False when it cannot be: no handshake, answered already, the client is gone, the
    server is stopping, or ``serve()`` was given no ``websocket``. A version other than 13 is answered with 426, and
    False.

Raises:
    TypeError: an argument of a wrong type, or an unknown one.
    ValueError: a header that cannot be sent (CR, LF, NUL) or that the handshake sets itself, a protocol that was not
        offered, or a request of another server.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: Server.upgrade. RFC 6455 section 4.2.2.
)";

constexpr char kServerPublish[] = R"(publish($self, /, topic, data, compress=True)
--

Send one message to every subscriber of a topic.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, no wildcards.
    data: str, sent as text, or bytes-like, sent as binary; at most 256 MiB.
    compress: False sends it plain; True compresses it, once for all subscribers with equal settings, for those that
        have negotiated permessage-deflate.

Returns:
    The length of the payload in bytes; -1 when a subscriber has backpressure, and every one gets the message; 0 when
    there is no subscriber, when a subscriber had no room for it (the others still get it), when the server has
    stopped, and for an empty message. Each dropped copy is counted: ``stats()["dropped_sends"]``.

Raises:
    TypeError: topic is no str, data neither str nor bytes-like, or compress no bool.
    ValueError: topic is empty or too long, or data is over 256 MiB.
    RuntimeError: in a child made by fork.

Threads: any. A call from another thread hands a copy over, and the result is about that alone: the length of the
payload, or 0 when there is no room for the copy. Which subscribers have room is decided, and counted, later.

Bun: Server.publish. RFC 7692 for compression.
)";

constexpr char kSubscriberCount[] = R"(subscriber_count($self, topic, /)
--

Tell how many sockets are subscribed to a topic.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

Returns:
    An int; 0 for a topic that nobody has subscribed to.

Raises:
    TypeError: topic is no str.
    ValueError: topic is empty or too long.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: Server.subscriberCount.
)";

constexpr char kRequestIp[] = R"(request_ip($self, request, /)
--

Tell the address of a request's client.

Behind a proxy of ``trusted_proxies`` it is the client that the proxy names, with port 0 if it names none. If a PROXY
header contains no client address, it is the proxy's own, which says nothing about the client.

Args:
    request: a ``Request`` of this server.

Returns:
    A named tuple (address, port, family): a str, an int, and "IPv4" or "IPv6", also when the client has gone; None on a
    unix socket.

Raises:
    TypeError: request is no ``Request``.
    ValueError: it belongs to another server.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: Server.requestIP.
)";

constexpr char kTimeout[] = R"(timeout($self, /, request, seconds)
--

Set how long a request may wait for its answer, and then for each bit of progress of it, instead of ``idle_timeout``.

Args:
    request: a ``Request`` of this server; nothing happens when its client is gone.
    seconds: an int, 0..86,400; 0 is for ever.

Returns:
    None.

Raises:
    TypeError: an argument of a wrong type.
    ValueError: seconds out of range, or a request of another server.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: Server.timeout.
)";

constexpr char kStats[] = R"(stats(self)
--

Tell what the server has counted since ``serve()`` made it.

Counters never fall and outlast the server's end. The dashboard's viewers are not counted. It costs some microseconds,
however many connections and topics there are.

Returns:
    A new dict of int, float and dicts of such, every key always there; ``uwserve.stats.ServerStats`` tells each.

Threads: any.

Bun: none; ours.
)";

constexpr char kTopics[] = R"(topics(self)
--

Tell of every topic that has a subscriber.

A topic exists from its first subscriber to its last; a later one of that name starts from 0. It takes time in
proportion to all subscriptions.

Returns:
    A dict, in order of the names' UTF-8 bytes, of dicts with ``subscribers`` (how many) and ``publishes`` (how often
    something was published to it since it exists); ``uwserve.stats.TopicStats``.

Raises:
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: none; ours.
)";

constexpr char kSubscribers[] = R"(subscribers(self, topic)
--

Tell who is subscribed to a topic.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

Returns:
    A list of ``ServerWebSocket``, by id; [] for a topic without subscribers.

Raises:
    TypeError: topic is no str.
    ValueError: topic is empty or too long.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: none; ours.
)";

constexpr char kCallSoon[] = R"(call_soon(self, fn, /, *args)
--

Call a function on the server's thread, in the next iteration of its loop.

Calls come in order. An exception out of one is logged. What is left when the server ends is called then.

Args:
    fn: a callable.
    *args: its arguments.

Returns:
    None, at once.

Raises:
    TypeError: fn is not callable.
    RuntimeError: the server has ended, or in a child made by fork.

Threads: any.

Bun: none; ours.
)";

constexpr char kTasks[] = R"(The asyncio Tasks of handlers that have not ended yet: a frozenset, a copy.

RuntimeError on another thread than the server's.

Threads: the server's thread only.

Bun: none; ours.
)";

constexpr char kRefused[] =
    R"(What was refused since the start: a new dict of every cause to its count, both always there.

Causes are limits, malformed requests, protocol errors, drops; ``uwserve.stats.ServerStats`` has it, too.

Threads: any.

Bun: none; ours.
)";

constexpr char kLocalPort[] = R"(For the facade. The port that it listens on, an int; 0 for a unix socket. Any thread.
)";

constexpr char kPendingRequests[] = R"(How many requests wait for their answer, an int.

Threads: any.

Bun: Server.pendingRequests.
)";

constexpr char kPendingWebsockets[] = R"(How many WebSockets are open, an int.

Threads: any.

Bun: Server.pendingWebSockets.
)";

constexpr char kBufferedBytes[] =
    R"(Bytes that the server keeps for its connections, an int: what ``max_buffered_bytes`` bounds.

Output that peers have not taken, messages and requests that are incomplete, calls of other threads.

Threads: any.

Bun: none; ours.
)";

constexpr char kRunning[] = R"(True while a thread or an event loop runs it; a bool.

Threads: any.

Bun: none; ours.
)";

constexpr char kStopping[] = R"(True from ``stop()`` on; a bool.

Threads: any.

Bun: none; ours.
)";

constexpr char kFinished[] = R"(True once it was stopped and its last connection is gone; a bool.

Threads: any.

Bun: none; ours.
)";

constexpr char kCompressions[] = R"(For the facade. How many messages were compressed, an int;
a broadcast counts once for each setting. The server's thread.
)";

constexpr char kLiveHandles[] = R"(For the facade. How many ServerWebSocket objects this
process holds, an int, for leak tests. Any thread.
)";

}  // namespace uwserve::docs
