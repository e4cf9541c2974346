// The docstrings of ServerWebSocket and its methods, with the text signatures that inspect.signature() reads. One
// style, that of the whole package: a summary, what there is to know, Args, Returns, Raises, then Threads and what it
// mirrors. Its attributes, and what waits for it, are in ws_attribute_docs.h.
#pragma once

namespace uwserve::docs {

constexpr char kServerWebSocket[] = R"(A WebSocket connection, as handlers see it.

The server makes it in ``upgrade()`` and hands it to every handler; it is never made by hand. It is a handle: it may be
kept, and after the close every method still has a defined answer and does nothing. ``ServerWebSocket[T]`` in an
annotation says that ``data`` is a ``T``.

Threads: send*, publish*, ping, pong, subscribe, close, terminate, pause, resume, and the attributes but for
buffered_amount and subscriptions, may be used on any thread; closed(), drained() and messages() in the event loop of
any; what else there is, on the server's thread only.

Bun: ServerWebSocket. RFC 6455.
)";

// --- sending ---

constexpr char kSend[] = R"(send($self, /, data, compress=False)
--

Send one message: a str as text, anything bytes-like as binary.

It never blocks. What the network does not take at once is kept in memory, up to ``backpressure_limit``, and goes out as
the peer reads; the ``drain`` handler, or ``await ws.drained()``, tells when.

Args:
    data: str, sent as a text message in UTF-8, or an object with the buffer protocol that is C-contiguous (bytes,
        bytearray, memoryview, array.array, a NumPy array), sent as a binary message; at most 256 MiB. It is copied
        where it has to wait, so it may be changed afterwards.
    compress: True compresses the message, if the client has negotiated permessage-deflate and it gets smaller. Limits
        and the result count the bytes as given.

Returns:
    The length of the payload in bytes when it was sent; -1 when it was accepted, but waits behind a slow peer (do not
    send it again; hold further ones back until ``drain``); 0 when it was dropped because ``backpressure_limit`` or
    ``max_buffered_bytes`` would be exceeded, when the socket is closed, and for an empty message, which is sent.

Raises:
    TypeError: data is neither str nor bytes-like, or compress is no bool.
    ValueError: data is over 256 MiB. UnicodeEncodeError, which is one, for a str with lone surrogates.
    RuntimeError: in a child made by fork.

Threads: any. A call from another thread hands a copy over, in order, and the result is about that alone: the length
of the payload, or 0 when there is no room for the copy. Whether the socket has room is decided, and counted, later.

Bun: ServerWebSocket.send. RFC 6455 section 5.6, RFC 7692 for compression.
)";

constexpr char kSendText[] = R"(send_text($self, /, data, compress=False)
--

Send one text message: ``send()`` for str only.

Args:
    data: the text, a str; at most 256 MiB of UTF-8.
    compress: True compresses the message where the client has negotiated that.

Returns:
    As ``send()``: the length of the payload in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

Raises:
    TypeError: data is no str, or compress is no bool.
    ValueError: data is over 256 MiB, or has lone surrogates.
    RuntimeError: in a child made by fork.

Threads: any, as ``send()``.

Bun: ServerWebSocket.sendText. RFC 6455 section 5.6.
)";

constexpr char kSendBinary[] = R"(send_binary($self, /, data, compress=False)
--

Send one binary message: ``send()`` for bytes-like objects only.

Args:
    data: an object with the buffer protocol that is C-contiguous, such as bytes; at most 256 MiB.
    compress: True compresses the message where the client has negotiated that.

Returns:
    As ``send()``: the length of the payload in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

Raises:
    TypeError: data is not bytes-like, or compress is no bool.
    ValueError: data is over 256 MiB.
    RuntimeError: in a child made by fork.

Threads: any, as ``send()``.

Bun: ServerWebSocket.sendBinary. RFC 6455 section 5.6.
)";

constexpr char kPing[] = R"(ping($self, /, data=b'')
--

Send a Ping frame. The peer's answer calls the ``pong`` handler.

Seldom needed: the options ``send_pings`` and ``ping_interval`` do it by themselves.

Args:
    data: str or bytes-like, at most 125 bytes; it comes back in the Pong.

Returns:
    As ``send()``: the length of data in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

Raises:
    TypeError: data is neither str nor bytes-like.
    ValueError: data is over 125 bytes.
    RuntimeError: in a child made by fork.

Threads: any, as ``send()``.

Bun: ServerWebSocket.ping. RFC 6455 section 5.5.2.
)";

constexpr char kPong[] = R"(pong($self, /, data=b'')
--

Send a Pong frame that nobody asked for. Pings of the peer are answered without you.

Args:
    data: str or bytes-like, at most 125 bytes.

Returns:
    As ``send()``: the length of data in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

Raises:
    TypeError: data is neither str nor bytes-like.
    ValueError: data is over 125 bytes.
    RuntimeError: in a child made by fork.

Threads: any, as ``send()``.

Bun: ServerWebSocket.pong. RFC 6455 section 5.5.3.
)";

// --- topics ---

constexpr char kPublish[] = R"(publish($self, /, topic, data, compress=False)
--

Send one message to every other subscriber of a topic.

This socket need not be subscribed, and gets the message itself only with the option ``publish_to_self`` and when it is.
It may even be closed, while its server runs. Each subscriber gets what was sent and published to it in that order.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, no wildcards.
    data: str, sent as text, or bytes-like, sent as binary; at most 256 MiB.
    compress: True compresses the message, once for all subscribers with equal settings.

Returns:
    The length of the payload in bytes; -1 when a subscriber has backpressure, and every one gets the message; 0 when
    there is no other subscriber, when a subscriber had no room for it (the others still get it), and for an empty
    message. Each dropped copy is counted: ``server.stats()["dropped_sends"]``.

Raises:
    TypeError: topic is no str, data neither str nor bytes-like, or compress no bool.
    ValueError: topic is empty or too long, or data is over 256 MiB.
    RuntimeError: in a child made by fork.

Threads: any. A call from another thread hands a copy over, and the result is about that alone: the length of the
payload, or 0 when there is no room for the copy. Which subscribers have room is decided, and counted, later.

Bun: ServerWebSocket.publish.
)";

constexpr char kPublishText[] = R"(publish_text($self, /, topic, data, compress=False)
--

Publish one text message: ``publish()`` for str only.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.
    data: the text, a str; at most 256 MiB of UTF-8.
    compress: True compresses the message where clients have negotiated that.

Returns:
    As ``publish()``: the length of the payload in bytes, -1 when a subscriber has backpressure, 0 when a copy was
    dropped or there is no subscriber.

Raises:
    TypeError: topic or data is no str, or compress is no bool.
    ValueError: topic is empty or too long, or data is over 256 MiB.
    RuntimeError: in a child made by fork.

Threads: any, as ``publish()``.

Bun: ServerWebSocket.publishText.
)";

constexpr char kPublishBinary[] = R"(publish_binary($self, /, topic, data, compress=False)
--

Publish one binary message: ``publish()`` for bytes-like objects only.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.
    data: an object with the buffer protocol that is C-contiguous, such as bytes; at most 256 MiB.
    compress: True compresses the message where clients have negotiated that.

Returns:
    As ``publish()``: the length of the payload in bytes, -1 when a subscriber has backpressure, 0 when a copy was
    dropped or there is no subscriber.

Raises:
    TypeError: topic is no str, data not bytes-like, or compress no bool.
    ValueError: topic is empty or too long, or data is over 256 MiB.
    RuntimeError: in a child made by fork.

Threads: any, as ``publish()``.

Bun: ServerWebSocket.publishBinary.
)";

constexpr char kSubscribe[] = R"(subscribe($self, topic, /)
--

Subscribe to a topic: what is published to it from now on reaches this socket.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, case-sensitive, no wildcards.

Returns:
    True, also when it was subscribed already; False when the socket is closed.

Raises:
    TypeError: topic is no str.
    ValueError: topic is empty or too long.
    RuntimeError: in a child made by fork.

Threads: any. On another thread than the server's it is queued, in order with ``publish()`` from there.

Bun: ServerWebSocket.subscribe.
)";

constexpr char kUnsubscribe[] = R"(unsubscribe($self, topic, /)
--

End a subscription. What was published before still arrives. A close ends all of them.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

Returns:
    True if it was subscribed; False if it was not, or the socket is closed.

Raises:
    TypeError: topic is no str.
    ValueError: topic is empty or too long.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only; ``server.call_soon(ws.unsubscribe, topic)`` works on any.

Bun: ServerWebSocket.unsubscribe.
)";

constexpr char kIsSubscribed[] = R"(is_subscribed($self, topic, /)
--

Tell whether this socket is subscribed to a topic.

Args:
    topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

Returns:
    True if it is; False if not, or the socket is closed.

Raises:
    TypeError: topic is no str.
    ValueError: topic is empty or too long.
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: ServerWebSocket.isSubscribed.
)";

// --- control ---

constexpr char kCork[] = R"(cork($self, callback, /)
--

Call a function and send what it sent to this socket in one write.

Handlers are corked already; this is for sends outside of them, after an ``await`` or in ``server.call_soon``. It nests,
and other sockets may be sent to inside. On a closed socket the function is just called.

Args:
    callback: a callable, which gets this socket as its only argument. A function without parameters, such as
        ``lambda: ...``, is called without it.

Returns:
    What callback returned.

Raises:
    RuntimeError: on another thread than the server's; the text names both.
    BaseException: whatever callback raised.

Threads: the server's thread only.

Bun: ServerWebSocket.cork.
)";

constexpr char kClose[] = R"(close($self, /, code=1000, reason='')
--

Close the connection: send what is queued, then a Close frame, then end the stream.

The ``close`` handler runs inside this call, with ``ready_state`` 3, and gets this very code and reason. What the peer
still sends is ignored. On a closed socket nothing happens.

Every code that a ``close`` handler gets may be passed on to another socket: 1005 and 1006, which no frame may carry,
send a Close without a status code and without a reason; the ``close`` handler then gets 1005 and "".

Args:
    code: the status code, an int: 1000-1003, 1007-1014 or 3000-4999; 0, 1005 or 1006 for none.
    reason: a str for the peer's eyes, at most 123 bytes of UTF-8.

Returns:
    None.

Raises:
    TypeError: code is no int, or reason no str.
    ValueError: code is none of these, or reason is too long.
    RuntimeError: in a child made by fork.

Threads: any. On another thread than the server's it is queued, behind what was sent from there, and the handler runs on
the server's thread.

Bun: ServerWebSocket.close. RFC 6455 sections 5.5.1, 7.1.2 and 7.4.
)";

constexpr char kTerminate[] = R"(terminate($self, /)
--

Close the connection without a Close frame.

Data that was sent and published to it before is first handed to the kernel, as far as it takes that at once, and still
arrives if the peer reads it; data queued for a slow peer is lost. The ``close`` handler runs inside this call with
1006 and "". On a closed socket nothing happens.

Returns:
    None.

Raises:
    RuntimeError: in a child made by fork.

Threads: any. On another thread than the server's it is queued, and the handler runs on the server's thread.

Bun: ServerWebSocket.terminate. RFC 6455 section 7.1.7.
)";

constexpr char kPause[] = R"(pause($self, /)
--

Stop reading from this socket, so that its peer has to wait; sending goes on.

The idle timer stands still meanwhile, and a peer that closes is noticed after ``resume()`` only. Idempotent; nothing
happens on a closed socket.

Returns:
    None.

Raises:
    RuntimeError: in a child made by fork.

Threads: any. On another thread than the server's it is queued.

Bun: ServerWebSocket.pause.
)";

constexpr char kResume[] = R"(resume($self, /)
--

Read from this socket again, after ``pause()``. The idle timer starts over.

Idempotent; nothing happens on a closed socket.

Returns:
    None.

Raises:
    RuntimeError: in a child made by fork.

Threads: any. On another thread than the server's it is queued.

Bun: ServerWebSocket.resume.
)";

constexpr char kGetBufferedAmount[] = R"(get_buffered_amount($self, /)
--

Tell how much waits for a slow peer: the property ``buffered_amount``, as a method.

Returns:
    Bytes, an int; 0 after the close.

Raises:
    RuntimeError: on another thread than the server's; the text names both.

Threads: the server's thread only.

Bun: ServerWebSocket.getBufferedAmount.
)";

}  // namespace uwserve::docs
