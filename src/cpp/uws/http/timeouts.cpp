// The timeouts of an HTTP connection, by its state. All of them share one timer, on_timeout, except those of TLS and PROXY
// headers, which come before, and of closing, which has a deadline (drain_and_end()).
//
//   the first head       idle_timeout from the connection on; bytes do not extend it
//   a later head         keep_alive_timeout for its first byte, from then on the same
//   a body               idle_timeout for each next byte, and min_body_rate on average once kBodyGraceSeconds have passed
//   the answer           idle_timeout, or what the request was given (set_timeout()): for its beginning, and then for each
//                        bit of progress of the client with reading it (websocket/peer_progress.h)
#include <algorithm>

#include "uws/http/connections.h"

namespace uwserve {

namespace {

// Before that, a body may be slower: TCP begins slowly, and so do people's radios.
constexpr unsigned kBodyGraceSeconds = 5;

}  // namespace

unsigned HttpConnections::period_of(const HttpConnection &conn) const {
    if (conn.state == HttpConnection::State::kPending) return conn.own_timeout.value_or(idle_timeout);
    bool is_idle = conn.state == HttpConnection::State::kHead && !conn.head_timed && !buffered_of(conn.s);
    return is_idle ? keep_alive_timeout : idle_timeout;
}

void HttpConnections::restart_timer(HttpConnection &conn) {
    us_socket_arm(conn.s, period_of(conn));
    if (conn.s->blocked || buffered_of(conn.s)) {
        conn.progress.mark(conn.s);
    } else {
        conn.progress.is_marked = false;
    }
}

void HttpConnections::set_timeout(HttpConnection &conn, unsigned seconds) {
    conn.own_timeout = seconds;
    us_socket_arm(conn.s, seconds);
}

// After each piece of it. A client below the rate keeps its old deadline: pieces of a body that is too slow do not
// extend it.
void HttpConnections::time_body(HttpConnection &conn) {
    unsigned seconds = idle_timeout;
    if (min_body_rate) {
        uint64_t allowed = std::max<uint64_t>(kBodyGraceSeconds, conn.body.size() / min_body_rate);
        uint64_t elapsed = conn.s->context->loop->tick - conn.body_begun;
        if (elapsed >= allowed) return;
        auto left = static_cast<unsigned>(allowed - elapsed);
        seconds = seconds ? std::min(seconds, left) : left;
    }
    us_socket_arm(conn.s, seconds);
}

// No byte has come, and none was acknowledged as far as the kernel knows, during the timeout. Unsent data for a client
// that must still send a head or a body, or that waits for a handler, does not extend it.
bool HttpConnections::is_alive(HttpConnection &conn) {
    using State = HttpConnection::State;
    bool is_reading = conn.state == State::kHead ? conn.held.empty() : conn.state == State::kPending && conn.responding;
    return (conn.progress.is_marked || is_reading) && conn.progress.may_stay_open(conn.s, 0, period_of(conn));
}

// Half a request is answered with 408 (RFC 9110 15.5.9); a client that has sent nothing, or reads nothing, is closed.
us_socket_t *HttpConnections::on_timeout(us_socket_t *s) {
    HttpConnections *connections = of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    if (conn && connections->is_alive(*conn)) {
        us_socket_arm(s, connections->period_of(*conn));
        return s;
    }
    bool half_head = conn && conn->state == HttpConnection::State::kHead && !conn->held.empty() && !conn->ready_queued;
    bool half_body = conn && conn->state == HttpConnection::State::kBody;
    if (half_head || half_body) {
        connections->limits_.refused(Refusal::kHeadTimeouts);
    } else if (conn && conn->is_pending && !connections->winding_down_) {
        connections->limits_.refused(Refusal::kIdleTimeouts);
    }
    if ((half_head || half_body) && buffered_of(s) == 0) {
        connections->refuse(*conn, 408,
                            half_head ? "the request head took too long" : "the request body took too long");
        return s;
    }
    us_socket_close(0, s, 0, nullptr);
    return s;
}

}  // namespace uwserve
