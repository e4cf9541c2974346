#include "uws/http/connections.h"
#include "usockets/loop/timeout_wheel.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

#include <algorithm>
#include <cstring>

#include "uws/websocket/handshake.h"

namespace uwserve {

namespace {

using State = HttpConnection::State;

// The request that uWebSockets sees every time. Its parser must accept it; nothing looks at the content.
constexpr std::string_view kUpstreamHead = "GET / HTTP/1.1\r\nhost: _\r\n\r\n";
constexpr size_t kUpstreamPadding = 64;  // that parser writes and reads behind the end

// This much behind a handshake is delivered at once, in one piece; more, in shares of the next turns.
constexpr size_t kMaxDirectBytes = 4096;

// Empty lines that may precede a request line (RFC 9112 2.2: "at least one").
constexpr unsigned kMaxEmptyLines = 4;

// Without an idle timeout, a half-received head may take this long after stop().
constexpr unsigned kHeadSecondsWhenStopping = 10;

void end_connection(us_socket_t *s) {
    us_socket_shutdown(0, s);
    us_socket_close(0, s, 0, nullptr);
}

}  // namespace

void drain_and_end(HttpConnection &conn) {
    conn.state = State::kDraining;
    if (buffered_of(conn.s)) {
        us_socket_arm(conn.s, 0);
        us_socket_deadline(conn.s, drain_seconds(conn.s));
    } else {
        end_connection(conn.s);
    }
}

void HttpConnections::install(us_socket_context_t *http_context, us_socket_context_t *ws_context) {
    http_ = http_context;
    ws_ = ws_context;
    deferred.install(http_->loop);
    http_->user = this;
    // uWebSockets sets a timeout of ten seconds whenever it writes. While a response drains, our timeout counts.
    http_->inbound_liveness = true;
    upstream_ = http_->cb;
    us_socket_context_on_open(0, http_, on_open);
    us_socket_context_on_data(0, http_, on_data);
    us_socket_context_on_writable(0, http_, on_writable);
    us_socket_context_on_end(0, http_, on_end);
    us_socket_context_on_timeout(0, http_, on_http_timeout);
    us_socket_context_on_close(0, http_, on_close);
}

// --- events of the socket layer ---

us_socket_t *HttpConnections::on_open(us_socket_t *s, int is_client, char *ip, int ip_length) {
    HttpConnections *connections = of(s);
    connections->upstream_.on_open(s, is_client, ip, ip_length);
    auto *conn = new HttpConnection(s, connections);
    s->user = conn;
    connections->limits_.stats.connections.add();
    if (!connections->limits_.address_opened(s)) {
        us_socket_reset(s);
        return s;
    }
    make_room_for(*conn);
    // The whole first head must arrive within this time: bytes do not extend it.
    us_socket_timeout(0, s, connections->idle_timeout);
    return s;
}

us_socket_t *HttpConnections::on_close(us_socket_t *s, int code, void *reason) {
    HttpConnections *connections = of(s);
    connections->limits_.stats.disconnections.add();
    connections->limits_.address_closed(s);
    connections->limits_.discharge(s);
    connections->upstream_.on_close(s, code, reason);  // runs onAborted of a pending request
    if (s->user) connections->remove(*static_cast<HttpConnection *>(s->user));
    return s;
}

void HttpConnections::remove(HttpConnection &conn) {
    if (conn.state == State::kPending) pending--;
    deferred.remove(conn);
    heads.remove(conn);
    release_client(conn);
    conn.s->user = nullptr;
    delete &conn;
}

us_socket_t *HttpConnections::on_data(us_socket_t *s, char *data, int length) {
    HttpConnections *connections = of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    std::string_view in(data, static_cast<size_t>(length));
    if (conn->state == State::kDraining) return s;
    if (conn->state == State::kPending || conn->is_queued) {
        conn->held.append(in);
        connections->charge(*conn);
        connections->limit_held(*conn);
    } else {
        connections->consume(*conn, in);
    }
    return s;
}

us_socket_t *HttpConnections::on_writable(us_socket_t *s) {
    HttpConnections *connections = of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    connections->upstream_.on_writable(s);
    if (s->closed || !conn) return s;
    if (conn->state == State::kDraining) {
        if (buffered_of(s) == 0) end_connection(s);
    } else if (conn->state == State::kHead) {
        restart_timer(*conn);
        if (buffered_of(s) == 0 && (s->pause_reasons || conn->half_closed)) connections->deferred.add(*conn);
    }
    return s;
}

// A half-close means "no more requests" (RFC 9112 9.6): those that came before it are answered in full. Only a handshake
// is over, because there are no half-closed WebSockets.
us_socket_t *HttpConnections::on_end(us_socket_t *s) {
    auto *conn = static_cast<HttpConnection *>(s->user);
    bool is_pending = conn && conn->state == State::kPending;
    if (is_pending && (conn->responding || read_handshake(*conn->head).verdict == Handshake::Verdict::kNotWebSocket)) {
        conn->half_closed = true;
        conn->head->close |= conn->held.empty();
    } else if (conn && (conn->is_queued || is_congested(*conn))) {  // held requests are still to be taken
        conn->half_closed = true;
    } else if (conn && !is_pending && buffered_of(s)) {
        drain_and_end(*conn);
    } else {
        us_socket_close(0, s, 0, nullptr);
    }
    return s;
}

// --- from bytes to requests ---

void HttpConnections::consume(HttpConnection &conn, std::string_view in) {
    std::string joined;
    if (!conn.held.empty()) {
        conn.held.append(in);
        joined.swap(conn.held);
        in = joined;
    }
    us_socket_t *s = conn.s, *upgraded = nullptr;
    unsigned requests = 0;
    std::optional<Turn> turn;  // a single request does not read the clock
    while (!in.empty() && !is_congested(conn)) {
        if (requests == kRequestsPerTurn || (turn && turn->is_over())) {
            deferred.add(conn);
            break;
        }
        if (requests == 1) turn.emplace();
        if (conn.state == State::kHead && !take_head(conn, in)) break;
        if (conn.state == State::kBody && !take_body(conn, in)) break;
        conn.upgraded = &upgraded;
        requests++;
        dispatch(conn);
        if (upgraded) {  // conn is gone
            deliver_rest(upgraded, in);
            return;
        }
        conn.upgraded = nullptr;
        if (s->closed || conn.state != State::kHead) break;
    }
    if (s->closed) return;
    if (conn.state == State::kDraining) {
        charge(conn);
        return;
    }
    const bool is_collecting = conn.state != State::kPending && !is_congested(conn);
    if (conn.half_closed && is_collecting && !conn.is_queued) {  // half a request, and no more to come
        drain_and_end(conn);
        return;
    }
    conn.held.assign(in);
    bool has_begun = !in.empty() || conn.empty_lines;
    if (conn.state == State::kHead && !conn.head_timed && has_begun && is_collecting) {
        // A head that begins late in an idle period has its own time; again, bytes do not extend it.
        conn.head_timed = true;
        restart_timer(conn);
    }
    charge(conn);
    limit_held(conn);
    if (is_collecting && (s->charged || !conn.body.empty()) && !limits_.has_memory(0)) [[unlikely]]
        refuse_request(conn, 503, kShortOfMemoryText);
}

// Bytes behind the handshake of a request that was upgraded in its own dispatch.
void HttpConnections::deliver_rest(us_socket_t *ws, std::string_view rest) {
    if (rest.empty() || ws->closed) return;
    if (ws->pause_reasons || rest.size() > kMaxDirectBytes) {  // the open handler may have paused it
        deferred.hold_late_bytes(ws, std::string(rest));
    } else {
        us_socket_deliver(ws, rest.data(), rest.size());
    }
}

void HttpConnections::charge(HttpConnection &conn) {
    if (conn.s->charged || !conn.held.empty()) limits_.charge(conn.s);
}

// Stops reading when too many bytes wait for a response, or too much of earlier responses for their reader. The timeouts
// run on.
void HttpConnections::limit_held(HttpConnection &conn) {
    bool must_wait = (conn.state == State::kPending || conn.is_queued) && !conn.held.empty();
    bool too_much = is_congested(conn) || (must_wait && (conn.held.size() > kMaxHeldBytes || !limits_.has_memory(0)));
    if (too_much && !(conn.s->pause_reasons & US_PAUSE_HELD)) us_socket_pause(conn.s, US_PAUSE_HELD);
}

// True: a whole head was taken, and the state is kBody (even if the body is empty).
bool HttpConnections::take_head(HttpConnection &conn, std::string_view &in) {
    conn.head.reset();  // that of the last request
    while (in.substr(0, 2) == "\r\n") {
        in.remove_prefix(2);
        conn.scanned = 0;
        if (++conn.empty_lines > kMaxEmptyLines)
            return refuse_request(conn, 400, "too many empty lines before the request line");
    }
    if (in.empty()) return false;
    const bool is_half_empty_line = in == "\r";
    if (!is_half_empty_line && !is_token(in.substr(0, 1)))  // such as a TLS hello, whose client waits for an answer
        return refuse_request(conn, 400, "not an HTTP request");
    const size_t end = find_head_end(in, conn.scanned);
    if (end == kMalformedHead) return refuse_request(conn, 400, "a line of the request head ends without CR");
    if ((end ? end : in.size()) > kMaxHeadBytes) {
        return is_target_too_long(in) ? refuse_request(conn, 414, "request target too long")
                                      : refuse_request(conn, 431, "request head too large");
    }
    if (end == 0) {
        conn.scanned = in.size();
        return false;
    }
    conn.scanned = 0;
    conn.head = std::make_shared<HttpHead>();
    conn.head->bytes.assign(in.substr(0, end));
    in.remove_prefix(end);
    const char *why = nullptr;
    if (int status = parse_head(*conn.head, &why)) return refuse_request(conn, status, why);
    const uint64_t length = conn.head->content_length, most = limits_.figures.max_buffered_bytes;
    if (length > max_body || (most && length > most)) return refuse_request(conn, 413, "request body too large");
    if (length && !limits_.has_body_room(0, length))  // before any of it is read
        return refuse_request(conn, 503, kShortOfMemoryText);
    if (!admit_request(conn)) return false;
    heads.remove(conn);
    conn.empty_lines = 0;
    conn.head->close |= is_winding_down_ || (conn.half_closed && in.empty());
    conn.state = State::kBody;
    conn.body.clear();
    conn.body_begun = conn.s->context->loop->tick;
    if (conn.head->expects_continue && length && in.empty())
        AsyncSocketAccess::write(conn.s, "HTTP/1.1 100 Continue\r\n\r\n");
    if (length) restart_body_timer(conn);
    return true;
}

// True: the body is complete.
bool HttpConnections::take_body(HttpConnection &conn, std::string_view &in) {
    size_t take = static_cast<size_t>(std::min<uint64_t>(in.size(), conn.head->content_length - conn.body.size()));
    if (take) {
        if (!limits_.has_body_room(conn.body.size(), take) || !conn.body.append(limits_, in.substr(0, take)))
            return refuse_request(conn, 503, kShortOfMemoryText);
        in.remove_prefix(take);
        restart_body_timer(conn);
    }
    return conn.body.size() == conn.head->content_length;
}

// --- from requests to responses ---

void HttpConnections::dispatch(HttpConnection &conn) {
    us_socket_t *s = conn.s;
    char padded[kUpstreamHead.size() + kUpstreamPadding] = {};
    memcpy(padded, kUpstreamHead.data(), kUpstreamHead.size());

    conn.state = State::kPending;
    conn.responding = false;
    conn.request_timeout.reset();
    pending++;
    limits_.stats.requests.add();
    dispatching_ = &conn;
    upstream_.on_data(s, padded, static_cast<int>(kUpstreamHead.size()));
    dispatching_ = nullptr;
    if (s->closed) return;
    us_socket_timeout(0, s, idle_timeout);
    conn.progress.is_marked = false;
    if (conn.over_limit) [[unlikely]]
        answer_over_limit(conn);
    else
        handler_.on_request(conn);
}

void HttpConnections::on_upstream_request(Response *response) {
    HttpConnection *conn = dispatching_;
    conn->response = response;
    response->onAborted([conn] { conn->connections->handler_.on_settled(*conn); });
}

void HttpConnections::response_done(HttpConnection &conn) {
    pending--;
    release_client(conn);
    if (asks_for_websocket(*conn.head)) limits_.stats.declined.add();
    conn.response = nullptr;
    handler_.on_settled(conn);
    if (conn.s->closed) {
        conn.state = State::kDraining;
        return;
    }
    if (conn.head->close || (conn.half_closed && conn.held.empty() && !conn.upgraded)) {
        discard_input(conn);
        drain_and_end(conn);
        return;
    }
    conn.state = State::kHead;
    conn.scanned = 0;
    conn.head_timed = false;
    restart_timer(conn);
    if (!conn.upgraded && (!conn.held.empty() || conn.s->pause_reasons)) deferred.add(conn);
}

void HttpConnections::discard_input(HttpConnection &conn) {
    conn.state = State::kDraining;
    conn.held.clear();
    charge(conn);
}

// --- the end of the server ---

void HttpConnections::wind_down(unsigned fresh_seconds) {
    is_winding_down_ = true;
    us_socket_context_each(http_, [](us_socket_t *s, void *user) {
        auto *conn = static_cast<HttpConnection *>(s->user);
        unsigned fresh_seconds = *static_cast<unsigned *>(user);
        if (!conn) {
            end_connection(s);
        } else if (fresh_seconds && conn->is_pending && conn->held.empty()) {
            us_socket_arm(s, fresh_seconds);
        } else if (conn->state == State::kHead && conn->held.empty()) {
            drain_and_end(*conn);
        } else if (conn->state != State::kDraining && conn->head) {
            conn->head->close = true;
        } else if (conn->state == State::kHead && conn->connections->idle_timeout == 0) {
            us_socket_arm(s, kHeadSecondsWhenStopping);
        }
    }, &fresh_seconds);
}

void HttpConnections::close_all() {
    us_socket_context_each(http_, [](us_socket_t *s, void *) { us_socket_close(0, s, 0, nullptr); }, nullptr);
}

}  // namespace uwserve
