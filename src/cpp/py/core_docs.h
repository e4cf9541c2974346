// The docstrings of what the native half of a server has for the facade alone, with the text signatures that
// inspect.signature() reads. What is told here is for who works on src/python; nothing of it is meant for users.
#pragma once

namespace uwserve::docs {

constexpr char kInit[] = R"(__init__(self)
--

A server that is not bound yet. For the facade.
)";

constexpr char kTlsConfigInit[] = R"(__init__(self, entries)
--

For the facade. Each entry is a dict with label (str), key, cert, ca, passphrase, ciphers (bytes; all but key and cert
may be None), alpn_protocols and server_name (lists of str), request_cert and reject_unauthorized (bool). ValueError
with the label of the entry, the option and what OpenSSL said. Any thread.
)";

constexpr char kSetHooks[] =
    R"(set_hooks(self, dispatch, log_exception, on_stopped, on_refused, on_event_loop_wanted, on_unknown_protocol=None)
--

For the facade, before listening. All are called on the server's thread.

dispatch(request): answers, upgrades or defers; an exception out of it is a 500. log_exception(where, exc, ws): an
exception that no ``error`` handler took; ws is None if it was no socket's. on_stopped(): the last connection of a
stopped server is gone (called exactly once). on_refused(seconds, counts): what was refused in that time, by cause; 0
seconds: just now. on_event_loop_wanted(): a coroutine has come, and no event loop runs it: call set_event_loop(), run
in that. on_unknown_protocol(name): a subprotocol was selected because a client offered it, without anything from the
application (called at most once).
)";

constexpr char kSetConnectionLog[] = R"(set_connection_log(self, is_wanted, opened, closed)
--

For the facade. is_wanted() is asked at most once a second whether connections are to be logged; if so, opened(ws) and
closed(ws, code, reason) log them.
)";

constexpr char kCountHandlerError[] = R"(count_handler_error(self, where)
--

For the facade. One more exception out of user code that the core does not see itself. Any thread.
)";

constexpr char kSetWebsocket[] =
    R"(set_websocket(self, *, open, message, close, drain, ping, pong, error, max_payload_length, idle_timeout, ping_interval, max_lifetime, backpressure_limit, close_on_backpressure_limit, send_pings, publish_to_self, serial, max_concurrent_handlers, per_message_deflate, protocols, enabled)
--

For the facade. Live: also for open sockets. A handler that is None is not called. per_message_deflate is a pair of
names, for compress and decompress; enabled False: ``serve()`` was given no ``websocket``, every upgrade() returns
False.
)";

constexpr char kSetHttp[] = R"(set_http(self, *, idle_timeout, keep_alive_timeout, min_body_rate, max_request_body_size)
--

For the facade. Live: also for open connections, from the next time that they are timed. Seconds, bytes a second, and
bytes.
)";

constexpr char kSetProxies[] = R"(set_proxies(self, *, networks, local, field, proxy_protocol)
--

For the facade. Live. networks: (address, prefix) of trusted peers, 4 or 16 bytes; local: unix peers, too; field: the
one that is believed from them, in lower case, or "".
)";

constexpr char kSetLimits[] =
    R"(set_limits(self, *, max_connections, max_connections_per_address, exempt_local, max_pending_heads, max_control_frames_per_second, max_tiny_fragments_per_second, max_buffered_bytes, max_concurrent_handlers, reserved_descriptors, max_descriptors, report_ms)
--

For the facade. Live. 0 turns a limit off. exempt_local: loopback is free of max_connections_per_address; trusted
proxies always are. max_descriptors: RLIMIT_NOFILE.
)";

constexpr char kSetTls[] = R"(set_tls(self, config)
--

For the facade. For connections from now on; the first time before listening. The server's thread, or while nothing
runs.
)";

constexpr char kListenTcp[] = R"(listen_tcp(self, hosts, port, reuse_port, ipv6_only)
--

For the facade, once. Listens on all of these numeric addresses, with the same port for all if it is 0. If there are
several, those of an unsupported family are left out. Returns [(numeric address, port)]. OSError with errno on failure;
its filename is the address.
)";

constexpr char kListenUnix[] = R"(listen_unix(self, path, mode)
--

For the facade, once. path: bytes; an abstract name starts with NUL. mode: permission bits, -1 for the umask's. Returns
[(path, -1)]. OSError with errno on failure.
)";

constexpr char kListenFds[] = R"(listen_fds(self, fds)
--

For the facade, once. Takes over bound and listening descriptors. OSError, with the descriptors before the bad one taken
over: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (not a stream), EAFNOSUPPORT (neither TCP nor unix), EINVAL (not listening).
Returns [(numeric address, port)], or path and -1.
)";

constexpr char kListeningDescriptors[] = R"(listening_descriptors(self)
--

For the facade. The descriptors of the listening sockets. The core still owns them: duplicate them. The server's thread.
)";

constexpr char kRunLoop[] = R"(run_loop(self, signal_fd=-1, rearm_signals=None)
--

For the facade. Runs until stopped and the last connection is gone. signal_fd: a descriptor whose readability means
"Python has a signal to handle" (signal.set_wakeup_fd), or -1. Exceptions out of signal handlers, and KeyboardInterrupt
and SystemExit out of handlers, end the run and are raised; the server can then be run again or stopped. rearm_signals()
is called after turns that took long: a handler may have replaced the process's signal handlers.
)";

constexpr char kStopCore[] = R"(stop_core(self, close_active_connections)
--

For the facade. False: stop listening, close idle HTTP connections, let requests and sockets finish. True: also 1001
"Server closed" to every socket; requests in flight are cut. Idempotent; may go from False to True. Any thread.
)";

constexpr char kCheckClose[] = R"(check_close(code, reason)
--

For the facade. TypeError or ValueError for what ServerWebSocket.close() would refuse.
)";

constexpr char kStopWithin[] = R"(stop_within(self, seconds, code, reason)
--

For the facade. The stop with a deadline, see Server.stop; a later call may shorten it. TypeError and ValueError for a
bad code or reason. Any thread.
)";

constexpr char kSetEventLoop[] = R"(set_event_loop(self, loop, tools)
--

For the facade. Coroutines run in this asyncio or uvloop event loop from now on; tools are those of _tasks. Then
attach_core() on the loop's thread gives a descriptor, and pump() is called whenever it is readable.
)";

constexpr char kForgetEventLoop[] = R"(forget_event_loop(self)
--

For the facade. The end of set_event_loop().
)";

constexpr char kAttachCore[] = R"(attach_core(self)
--

For the facade. The descriptor to watch in the event loop of this thread.
)";

constexpr char kPump[] = R"(pump(self)
--

For the facade. One turn of the loop: 0 goes on, 1 over (remove the reader, then detach_core()), 2 stopped by force and
only coroutines are left. Raises KeyboardInterrupt and SystemExit out of handlers.
)";

constexpr char kLoopReader[] = R"(loop_reader(self, on_end)
--

For the facade. A callable that calls pump(), and on_end() with what that tells, unless it is 0.
)";

constexpr char kDetachCore[] = R"(detach_core(self)
--

For the facade. The end of attach_core(). RuntimeError in a callback of the server's.
)";

constexpr char kCancelTasks[] = R"(cancel_tasks(self)
--

For the facade. Cancels the Tasks of handlers, but not the one that calls. The server's thread.
)";

constexpr char kForgetTasks[] = R"(forget_tasks(self)
--

For the facade. The Tasks of handlers are not waited for any more. The server's thread.
)";

constexpr char kStartCoroutine[] = R"(start_coroutine($self, coroutine, where='fetch', /)
--

For the facade. Steps a coroutine at once, in the task and context of a handler; returns its Task when it has suspended,
else None. where: what an exception out of it counts as in ``handler_errors``. The server's thread.
)";

constexpr char kRespond[] = R"(respond($self, request, status, headers, body, /)
--

For the facade. The answer to a request; False if it was answered or its client is gone. body None: no body and no
Content-Length (204, 304). The body is left out for HEAD. Header names and values are validated (CR, LF, NUL, names that
are no tokens: ValueError); Content-Length, Transfer-Encoding and Date are the core's own and skipped; "Connection:
close" closes. The server's thread.
)";

constexpr char kRespondStream[] = R"(respond_stream($self, request, status, headers, body, /)
--

For the facade. As respond(), with an iterator of bytes-like or str pieces: pulled as the socket takes them; its close()
is called when the client leaves. An exception out of it is logged and cuts the connection, so that the client sees an
incomplete body. The server's thread.
)";

constexpr char kRespondPushed[] = R"(respond_pushed($self, request, status, headers, tell, /)
--

For the facade. As respond_stream(), with pieces that come by push_piece(): tell(True) is called when one is wanted, unless
push_piece() says so, and tell(False) once, when the stream is over or its client gone. The server's thread.
)";

constexpr char kPushPiece[] = R"(push_piece($self, request, piece, /)
--

For the facade. Sends a piece, bytes-like or str, of the body that respond_pushed() has begun, when one is wanted; True if
another is wanted at once. TypeError for anything else, RuntimeError if none is wanted. The server's thread.
)";

constexpr char kEndPushed[] = R"(end_pushed($self, request, complete, /)
--

For the facade. Ends the body that respond_pushed() has begun; one that is not complete cuts the connection. False if it was
over. The server's thread.
)";

constexpr char kForced[] =
    R"(For the facade. True once the server was stopped by force: its coroutines have been cancelled.)";

constexpr char kDefer[] = R"(defer($self, request, /)
--

For the facade, inside dispatch(): the answer, or upgrade, comes later.
)";

}  // namespace uwserve::docs
