// The timeouts of an HTTP connection, by its state. All of them share one timer, except those of TLS handshakes and
// PROXY headers, which come before, and that of closing, which is a deadline (drain_and_end()).
//
//   the first head   idle_timeout from the connection on; bytes do not extend it
//   a later head     keep_alive_timeout until its first byte, from then on the same
//   a body           idle_timeout for each next byte, and min_body_rate on average after kBodyGraceSeconds
//   the response     idle_timeout, or that of the request (set_request_timeout()): until the response begins, and then
//                    for each bit of progress of the client in receiving it (websocket/peer_progress.h)
//
// Loop thread only.
#pragma once

struct us_socket_t;

namespace uwserve {

struct HttpConnection;

// The state has changed, or the client has made progress.
void restart_timer(HttpConnection &conn);
// A piece of the body has arrived.
void restart_body_timer(HttpConnection &conn);
// Replaces the idle timeout while the request is pending.
void set_request_timeout(HttpConnection &conn, unsigned seconds);
// The callback of the timer.
us_socket_t *on_http_timeout(us_socket_t *s);

}  // namespace uwserve
