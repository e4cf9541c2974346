// Receives the events of HTTP connections, before uWebSockets does.
//
// Every byte of an HTTP connection comes here first. HttpConnections collects heads, however their bytes are split,
// parses them strictly (http/head.h) and collects bodies. uWebSockets sees one constant, minimal head for each request,
// and the next one only after the response. So its own parser never sees a byte of a peer (defects H1-H7), bytes behind
// a handshake or a pipelined request are held and never lost (L13), and user code always runs outside of that parser,
// where upgrading and closing are safe (L3, L4, L7).
//
// A connection's state is an HttpConnection (http/connection.h). Loop thread only.
#pragma once

#include <atomic>

#include "uws/http/admission.h"
#include "uws/http/connection.h"
#include "uws/http/deferred.h"
#include "uws/http/timeouts.h"
#include "uws/http/turn.h"
#include "uws/http/upgrade_response.h"

namespace uwserve {

class HttpConnections {
  public:
    HttpConnections(HttpHandler &handler, Limits &limits) : deferred(limits), handler_(handler), limits_(limits) {}
    HttpConnections(const HttpConnections &) = delete;
    HttpConnections &operator=(const HttpConnections &) = delete;

    void install(us_socket_context_t *http_context, us_socket_context_t *ws_context);
    static HttpConnections *of(us_socket_t *s) { return static_cast<HttpConnections *>(s->context->user); }
    us_socket_context_t *ws_context() const { return ws_; }
    Limits &limits() { return limits_; }

    // The catch-all route of uWebSockets calls this with the constant request.
    void on_upstream_request(Response *response);
    // Takes requests from `in` until it is used up, a request is pending, or the connection ends. The rest is kept in
    // conn.held, or goes to the WebSocket that the connection has become.
    void consume(HttpConnection &conn, std::string_view in);
    // The whole response is written or in the send buffer.
    void response_done(HttpConnection &conn);
    // The last response is being sent: what the client still sends is not used.
    void discard_input(HttpConnection &conn);
    // Frees the connection, whose socket has closed or becomes a WebSocket.
    void remove(HttpConnection &conn);

    // Ends keep-alive: idle connections are closed, and the next response of the others is their last. A connection
    // that has sent nothing yet may send one request within `fresh_seconds`; with 0, it is idle.
    void wind_down(unsigned fresh_seconds);
    bool is_winding_down() const { return is_winding_down_; }
    void close_all();

    unsigned idle_timeout = 10;  // seconds, 0 = off
    unsigned keep_alive_timeout = 75;  // seconds after a response until the next request begins, 0 = off
    uint32_t min_body_rate = 240;  // bytes a second, on average, 0 = off
    uint64_t max_body = 16ull << 20;  // bytes
    std::atomic<uint32_t> pending{0};  // requests that wait for a response; any thread reads it
    PendingHeads heads;
    Deferred deferred;

  private:
    static us_socket_t *on_open(us_socket_t *s, int is_client, char *ip, int ip_length);
    static us_socket_t *on_data(us_socket_t *s, char *data, int length);
    static us_socket_t *on_writable(us_socket_t *s);
    static us_socket_t *on_end(us_socket_t *s);
    static us_socket_t *on_close(us_socket_t *s, int code, void *reason);

    bool take_head(HttpConnection &conn, std::string_view &in);
    bool take_body(HttpConnection &conn, std::string_view &in);
    void dispatch(HttpConnection &conn);
    void deliver_rest(us_socket_t *ws, std::string_view rest);
    void limit_held(HttpConnection &conn);
    void charge(HttpConnection &conn);

    HttpHandler &handler_;
    Limits &limits_;
    us_socket_context_t *http_ = nullptr, *ws_ = nullptr;
    us_callbacks_t upstream_{};
    HttpConnection *dispatching_ = nullptr;
    bool is_winding_down_ = false;
};

// The last response is written: the connection ends as soon as it has left, or at a deadline.
void drain_and_end(HttpConnection &conn);

}  // namespace uwserve
