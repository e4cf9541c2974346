// The docstrings of ServerWebSocket's attributes, of Messages and of what waits for a socket; style as in ws_docs.h.
#pragma once

namespace uwserve::docs {

// --- iterating ---

constexpr char kMessagesMethod[] = R"(messages($self, /)
--

Iterate over the messages from now on: ``async for message in ws.messages()``.

They come here instead of to the ``message`` handler: str for text, bytes for binary (bytearray with that
``binary_type``; never a memoryview, which would not live long enough). Up to 64 messages or 1 MiB wait; past that the
socket is not read, so that its client has to wait. The iteration ends with the connection, after what was received
before. What arrives after a break out of the loop, and what still waits then, goes to the message handler, if there is
one.

Returns:
    A ``Messages``, an asynchronous iterator.

Raises:
    RuntimeError: the messages of this socket are being iterated already, or in a child made by fork.

Threads: any coroutine of any thread's asyncio or uvloop event loop, one iteration at a time.

Bun: none; ours.
)";

constexpr char kMessages[] =
    R"(The messages of a socket as an asynchronous iterator: what ``ServerWebSocket.messages()`` returns.

Each item is a str for a text message, bytes (or bytearray, as ``binary_type`` says) for a binary one. Never made by
hand.

Threads: the event loop of one thread at a time, any thread's.

Bun: none; ours.
)";

constexpr char kMessagesAclose[] = R"(aclose($self, /)
--

End the iteration: further messages, and those that wait, go to the ``message`` handler.

Returns:
    An awaitable of None. Leaving the ``async for`` loop does the same once the iterator is freed.

Threads: any thread's event loop.
)";

// --- for _waiting.py ---

constexpr char kWait[] = R"(_wait($self, /, callback, below)
--

For the facade. The outcome if it is known: True when at most ``below`` bytes are buffered, (code, reason) once the
socket is closed. Else None, and callback(None) or callback((code, reason)) will be called, once, on the server's
thread, unless callback is None. With below None it is the close that is waited for. Any thread.
)";

constexpr char kForget[] = R"(_forget($self, callback, /)
--

For the facade. The callback is not to be called any more. Any thread.
)";

// --- attributes ---

constexpr char kData[] = R"(Anything of yours: the ``data`` of ``server.upgrade()``, None by default.

Readable and writable, also after the close; once deleted, AttributeError until it is set again.
``ServerWebSocket[T]`` gives it the type T.

Threads: any.

Bun: ServerWebSocket.data.
)";

constexpr char kReadyState[] =
    R"(The state as an int: 1 while open, 3 from the close on, already inside the ``close`` handler.

Equals a member of ``ReadyState``.

Threads: any.

Bun: ServerWebSocket.readyState.
)";

constexpr char kId[] = R"(The connection's number, an int: 1 for the first socket of its server that opened, and so on.

Log records tell it. Stays after the close.

Threads: any.

Bun: none; ours.
)";

constexpr char kRemoteAddress[] = R"(The client's IP address as str (IPv6 compressed, RFC 5952); None on a unix socket.

Behind a proxy of ``trusted_proxies`` it is the client that the proxy names. Stays after the close.

Threads: any.

Bun: ServerWebSocket.remoteAddress.
)";

constexpr char kSubscriptions[] =
    R"(The topics that this socket is subscribed to: a new, sorted list of str; [] after the close.

RuntimeError on another thread than the server's.

Threads: the server's thread only.

Bun: ServerWebSocket.subscriptions.
)";

constexpr char kBinaryType[] =
    R"(What binary messages arrive as, a str: "bytes" (the default), "bytearray" or "memoryview".

A memoryview shows the receive buffer, without a copy. It dies when the handler returns or first suspends: it is
released, and using it later raises ValueError. Bun's "nodebuffer", "uint8array" and "arraybuffer" may be assigned and
mean these three, in that order. Assigning something else raises TypeError or ValueError.

Threads: any; counts for messages to come.

Bun: ServerWebSocket.binaryType.
)";

constexpr char kProtocol[] = R"(The subprotocol that was selected in the handshake, a str; "" if none.

Threads: any.

Bun: none; the browser's WebSocket.protocol. RFC 6455 section 1.9.
)";

constexpr char kBufferedAmount[] = R"(Bytes that wait in memory for a slow peer, an int; 0 after the close.

Accepted for sending and not taken by the kernel yet, frame headers included, without what is corked. RuntimeError on
another thread than the server's.

Threads: the server's thread only.

Bun: ServerWebSocket.getBufferedAmount.
)";

constexpr char kServer[] = R"(The ``Server`` that this socket belongs to.

Threads: any.

Bun: none; ours.
)";

}  // namespace uwserve::docs
