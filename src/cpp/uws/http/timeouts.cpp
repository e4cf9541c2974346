#include "uws/http/timeouts.h"

#include <algorithm>

#include "uws/http/connections.h"
#include "usockets/loop/timeout_wheel.h"

namespace uwserve {

namespace {

using State = HttpConnection::State;

// Until then, a body may be slower: TCP begins slowly, and radio links need time.
constexpr unsigned kBodyGraceSeconds = 5;

unsigned period_of(const HttpConnection &conn) {
    const HttpConnections &connections = *conn.connections;
    if (conn.state == State::kPending) return conn.request_timeout.value_or(connections.idle_timeout);
    bool is_idle = conn.state == State::kHead && !conn.head_timed && !buffered_of(conn.s);
    return is_idle ? connections.keep_alive_timeout : connections.idle_timeout;
}

// False: during the timeout no byte was received, and as far as the kernel knows none was acknowledged. Unsent data does
// not extend the timeout of a client that must still send a head or a body, or whose request waits for a handler.
bool is_alive(HttpConnection &conn) {
    bool is_reading = conn.state == State::kHead ? conn.held.empty() : conn.state == State::kPending && conn.responding;
    return (conn.progress.is_marked || is_reading) && conn.progress.may_stay_open(conn.s, 0, period_of(conn));
}

}  // namespace

void restart_timer(HttpConnection &conn) {
    us_socket_arm(conn.s, period_of(conn));
    conn.progress.is_marked = false;
    if (conn.s->blocked || buffered_of(conn.s)) conn.progress.mark(conn.s);
}

void set_request_timeout(HttpConnection &conn, unsigned seconds) {
    conn.request_timeout = seconds;
    us_socket_arm(conn.s, seconds);
}

// A client below the rate keeps its old deadline: pieces of a body that is too slow do not extend it.
void restart_body_timer(HttpConnection &conn) {
    unsigned seconds = conn.connections->idle_timeout;
    if (uint32_t rate = conn.connections->min_body_rate) {
        uint64_t allowed = std::max<uint64_t>(kBodyGraceSeconds, conn.body.size() / rate);
        uint64_t elapsed = conn.s->context->loop->tick - conn.body_begun;
        if (elapsed >= allowed) return;
        auto left = static_cast<unsigned>(allowed - elapsed);
        seconds = seconds ? std::min(seconds, left) : left;
    }
    us_socket_arm(conn.s, seconds);
}

// Half a request is answered with 408 (RFC 9110 15.5.9); a client that has sent nothing, or reads nothing, is closed.
us_socket_t *on_http_timeout(us_socket_t *s) {
    HttpConnections *connections = HttpConnections::of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    if (conn && is_alive(*conn)) {
        us_socket_arm(s, period_of(*conn));
        return s;
    }
    bool half_head = conn && conn->state == State::kHead && !conn->held.empty() && !conn->is_queued;
    bool half_body = conn && conn->state == State::kBody;
    if (half_head || half_body) {
        connections->limits().refused(Refusal::kHeadTimeouts);
    } else if (conn && conn->is_pending && !connections->is_winding_down()) {
        connections->limits().refused(Refusal::kIdleTimeouts);
    }
    if ((half_head || half_body) && buffered_of(s) == 0) {
        refuse_request(*conn, 408, half_head ? "the request head took too long" : "the request body took too long");
    } else {
        us_socket_close(0, s, 0, nullptr);
    }
    return s;
}

}  // namespace uwserve
