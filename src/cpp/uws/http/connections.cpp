// Input side of HttpConnections: from received bytes to one complete request at a time. Answers are in http/response.cpp.
#include "uws/http/connections.h"
#include "uws/websocket/handshake.h"
#include "usockets/loop/timeout_wheel.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace uwserve {

namespace {

// What upstream gets to see of every request. It must be valid for upstream's parser; its content is never looked at.
constexpr std::string_view kUpstreamHead = "GET / HTTP/1.1\r\nhost: _\r\n\r\n";
constexpr size_t kUpstreamPadding = 64;  // upstream's parser fences and scans behind the end

// Bytes behind a handshake that are delivered at once, in one piece; more than a turn's share waits for the next turns.
constexpr size_t kMaxDirectBytes = 4096;

// Without an idle timeout, the rest of a half-received head may still take this long after stop().
constexpr unsigned kHeadSecondsWhenStopping = 10;

}  // namespace

void HttpConnections::install(us_socket_context_t *http_context, us_socket_context_t *ws_context) {
    http_ = http_context;
    ws_ = ws_context;
    http_->user = this;
    // Upstream arms ten seconds of its own whenever it writes; while a response drains, our timeout counts.
    http_->inbound_liveness = true;
    upstream_ = http_->cb;
    us_socket_context_on_open(0, http_, on_open);
    us_socket_context_on_data(0, http_, on_data);
    us_socket_context_on_writable(0, http_, on_writable);
    us_socket_context_on_end(0, http_, on_end);
    us_socket_context_on_timeout(0, http_, on_timeout);
    us_socket_context_on_close(0, http_, on_close);
}

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
    connections->make_room_for(*conn);
    // The whole first head must arrive in this time: bytes do not extend it.
    us_socket_timeout(0, s, connections->idle_timeout);
    return s;
}

// Over the limit, whoever has taken the longest goes: many slow clients cannot keep the next one out.
void HttpConnections::make_room_for(HttpConnection &newcomer) {
    heads_.add(newcomer);
    uint32_t max = limits_.figures.max_pending_heads;
    while (max && heads_.size() > max) {
        PendingHead &oldest = *heads_.oldest();
        heads_.remove(oldest);
        limits_.refused(Refusal::kPendingHeads);
        us_socket_reset(static_cast<HttpConnection &>(oldest).s);
    }
}

us_socket_t *HttpConnections::on_close(us_socket_t *s, int code, void *reason) {
    HttpConnections *connections = of(s);
    connections->limits_.stats.disconnections.add();
    connections->limits_.address_closed(s);
    connections->limits_.discharge(s);
    connections->upstream_.on_close(s, code, reason);  // runs onAborted of a pending request
    if (auto *conn = static_cast<HttpConnection *>(s->user)) {
        s->user = nullptr;
        if (conn->state == HttpConnection::State::kPending) connections->pending--;
        if (conn->ready_queued) std::erase(connections->ready_, conn);
        connections->heads_.remove(*conn);
        connections->release_client(*conn);
        delete conn;
    }
    return s;
}

us_socket_t *HttpConnections::on_data(us_socket_t *s, char *data, int length) {
    HttpConnections *connections = of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    std::string_view in(data, static_cast<size_t>(length));
    switch (conn->state) {
    case HttpConnection::State::kHead:
    case HttpConnection::State::kBody:
        if (!conn->ready_queued) {
            connections->consume(*conn, in);
            break;
        }
        [[fallthrough]];
    case HttpConnection::State::kPending:
        conn->held.append(in);
        connections->charge(*conn);
        connections->limit_held(*conn);
        break;
    case HttpConnection::State::kDraining:
        break;
    }
    return s;
}

us_socket_t *HttpConnections::on_writable(us_socket_t *s) {
    HttpConnections *connections = of(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    connections->upstream_.on_writable(s);
    if (s->closed || !conn) return s;
    if (conn->state == HttpConnection::State::kDraining) {
        if (buffered_of(s) == 0) end_connection(s);
    } else if (conn->state == HttpConnection::State::kHead) {
        connections->restart_timer(*conn);
        if (buffered_of(s) == 0 && (s->pause_reasons || conn->half_closed)) connections->queue_ready(*conn);
    }
    return s;
}

// The peer's FIN means "no more requests" (RFC 9112 9.6): what it asked for is still answered in full. Only a handshake
// whose client has left is over: nobody can hold half a WebSocket.
us_socket_t *HttpConnections::on_end(us_socket_t *s) {
    auto *conn = static_cast<HttpConnection *>(s->user);
    bool pending = conn && conn->state == HttpConnection::State::kPending;
    if (pending && (conn->responding || read_handshake(*conn->head).verdict == Handshake::Verdict::kNotWebSocket)) {
        conn->half_closed = true;
        conn->head->close |= conn->held.empty();
        return s;
    }
    if (conn && (conn->ready_queued || is_congested(*conn))) {  // held requests are still to be taken
        conn->half_closed = true;
        return s;
    }
    if (conn && !pending && buffered_of(s)) {
        conn->state = HttpConnection::State::kDraining;
        of(s)->drain_and_end(*conn);
        return s;
    }
    us_socket_close(0, s, 0, nullptr);
    return s;
}

// Takes requests off `in` until it is used up, a request waits for its answer, or the connection ends. What is left is
// kept in conn.held, or goes to the WebSocket that the connection became.
void HttpConnections::consume(HttpConnection &conn, std::string_view in) {
    std::string joined;
    if (!conn.held.empty()) {
        conn.held.append(in);
        joined.swap(conn.held);
        in = joined;
    }
    us_socket_t *s = conn.s;
    HttpConnection::Frame frame;
    unsigned requests = 0;
    std::optional<Turn> turn;  // a lone request does not look at the clock
    while (!in.empty() && !is_congested(conn)) {
        if (requests == kRequestsPerTurn || (turn && turn->is_over())) {
            queue_ready(conn);
            break;
        }
        if (requests == 1) turn.emplace();
        if (conn.state == HttpConnection::State::kHead && !take_head(conn, in)) break;
        if (conn.state == HttpConnection::State::kBody && !take_body(conn, in)) break;
        conn.frame = &frame;
        requests++;
        dispatch(conn);
        if (frame.upgraded) {  // conn is gone
            if (in.empty() || frame.upgraded->closed) return;
            if (frame.upgraded->pause_reasons || in.size() > kMaxDirectBytes) {  // paused by the open handler
                hold_late_bytes(frame.upgraded, std::string(in));
                deliver_late_bytes(frame.upgraded);
            } else {
                us_socket_deliver(frame.upgraded, in.data(), in.size());
            }
            return;
        }
        conn.frame = nullptr;
        if (s->closed || conn.state != HttpConnection::State::kHead) break;
    }
    if (s->closed) return;
    if (conn.state == HttpConnection::State::kDraining) {
        charge(conn);
        return;
    }
    if (conn.half_closed && conn.state != HttpConnection::State::kPending && !is_congested(conn) &&
        !conn.ready_queued) {  // half a request, and no more to come
        conn.state = HttpConnection::State::kDraining;
        drain_and_end(conn);
        return;
    }
    conn.held.assign(in);
    bool has_begun = !in.empty() || conn.empty_lines;
    if (conn.state == HttpConnection::State::kHead && !conn.head_timed && has_begun && !is_congested(conn)) {
        // A head that begins late in an idle period has its own time; again, bytes do not extend it.
        conn.head_timed = true;
        restart_timer(conn);
    }
    charge(conn);
    limit_held(conn);
    bool is_collecting =
        conn.state != HttpConnection::State::kPending && !is_congested(conn) && (s->charged || !conn.body.empty());
    if (is_collecting && !limits_.has_memory(0)) [[unlikely]]
        refuse(conn, 503, "server is short of memory");
}

void HttpConnections::charge(HttpConnection &conn) {
    if (conn.s->charged || !conn.held.empty()) limits_.charge(conn.s);
}

// Stops reading past the bounds: of what waits for an answer, and of answers that wait for their reader. The time for
// either runs on.
void HttpConnections::limit_held(HttpConnection &conn) {
    bool must_wait = (conn.state == HttpConnection::State::kPending || conn.ready_queued) && !conn.held.empty();
    bool too_much = is_congested(conn) || (must_wait && (conn.held.size() > kMaxHeldBytes || !limits_.has_memory(0)));
    if (!too_much || (conn.s->pause_reasons & US_PAUSE_HELD)) return;
    us_socket_pause(conn.s, US_PAUSE_HELD);
}

// True when a whole head was taken; the state is then kBody (also for a body of no bytes).
bool HttpConnections::take_head(HttpConnection &conn, std::string_view &in) {
    conn.head.reset();  // the last request's
    while (in.substr(0, 2) == "\r\n") {  // RFC 9112 2.2: some empty lines before a request line are skipped
        in.remove_prefix(2);
        conn.scanned = 0;
        if (++conn.empty_lines > kMaxEmptyLines) {
            refuse(conn, 400, "too many empty lines before the request line");
            return false;
        }
    }
    if (in.empty()) return false;
    bool is_half_empty_line = in == "\r";
    if (!is_half_empty_line && !is_token(in.substr(0, 1))) {  // a TLS hello, say: its client waits for an answer
        refuse(conn, 400, "not an HTTP request");
        return false;
    }
    size_t end = find_head_end(in, conn.scanned);
    if (end == kMalformedHead) {
        refuse(conn, 400, "a line of the request head ends without CR");
        return false;
    }
    if (end > kMaxHeadBytes || (end == 0 && in.size() > kMaxHeadBytes)) {
        bool target = is_target_too_long(in);
        refuse(conn, target ? 414 : 431, target ? "request target too long" : "request head too large");
        return false;
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
    int status = parse_head(*conn.head, &why);
    uint64_t length = conn.head->content_length, most = limits_.figures.max_buffered_bytes;
    if (!status && (length > max_body || (most && length > most))) {
        status = 413;
        why = "request body too large";
    } else if (!status && length && !limits_.has_body_room(0, length)) {  // before any of it is read
        status = 503;
        why = "server is short of memory";
    }
    if (status) {
        refuse(conn, status, why);
        return false;
    }
    if (!admit(conn)) return false;
    heads_.remove(conn);
    conn.empty_lines = 0;
    conn.head->close |= winding_down_ || (conn.half_closed && in.empty());
    conn.state = HttpConnection::State::kBody;
    conn.body.clear();
    conn.body_begun = conn.s->context->loop->tick;
    if (conn.head->expects_continue && conn.head->content_length && in.empty()) {
        AsyncSocketAccess::write(reinterpret_cast<uWS::AsyncSocket<false> *>(conn.s), "HTTP/1.1 100 Continue\r\n\r\n",
                                 25);
    }
    if (conn.head->content_length) time_body(conn);
    return true;
}

// True when the body is complete.
bool HttpConnections::take_body(HttpConnection &conn, std::string_view &in) {
    size_t take = static_cast<size_t>(std::min<uint64_t>(in.size(), conn.head->content_length - conn.body.size()));
    try {
        if (take && !limits_.has_body_room(conn.body.size(), take)) {
            refuse(conn, 503, "server is short of memory");
            return false;
        }
        if (take) conn.body.append(limits_, in.substr(0, take));
    } catch (const std::bad_alloc &) {
        refuse(conn, 503, "server is short of memory");
        return false;
    }
    in.remove_prefix(take);
    if (take) time_body(conn);
    return conn.body.size() == conn.head->content_length;
}

void HttpConnections::dispatch(HttpConnection &conn) {
    us_socket_t *s = conn.s;
    char padded[kUpstreamHead.size() + kUpstreamPadding] = {};
    memcpy(padded, kUpstreamHead.data(), kUpstreamHead.size());

    conn.state = HttpConnection::State::kPending;
    conn.responding = false;
    conn.own_timeout.reset();
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
        conn.state = HttpConnection::State::kDraining;
        return;
    }
    if (conn.head->close || (conn.half_closed && conn.held.empty() && !conn.frame)) {
        conn.state = HttpConnection::State::kDraining;
        conn.held.clear();
        charge(conn);
        drain_and_end(conn);
        return;
    }
    conn.state = HttpConnection::State::kHead;
    conn.scanned = 0;
    conn.head_timed = false;
    restart_timer(conn);
    if (!conn.frame && (!conn.held.empty() || conn.s->pause_reasons)) queue_ready(conn);
}

// The last answer was written: the connection ends as soon as it has left, or when it does not leave in a fair time.
void HttpConnections::drain_and_end(HttpConnection &conn) {
    if (buffered_of(conn.s)) {
        us_socket_arm(conn.s, 0);
        us_socket_deadline(conn.s, drain_seconds(conn.s));
    } else {
        end_connection(conn.s);
    }
}

void HttpConnections::end_connection(us_socket_t *s) {
    us_socket_shutdown(0, s);
    us_socket_close(0, s, 0, nullptr);
}

void HttpConnections::wind_down(unsigned fresh_seconds) {
    winding_down_ = true;
    us_socket_context_each(http_, [](us_socket_t *s, void *user) {
        auto *conn = static_cast<HttpConnection *>(s->user);
        unsigned fresh_seconds = *static_cast<unsigned *>(user);
        if (!conn) {
            end_connection(s);
        } else if (fresh_seconds && conn->is_pending && conn->held.empty()) {
            us_socket_arm(s, fresh_seconds);
        } else if (conn->state == HttpConnection::State::kHead && conn->held.empty()) {
            conn->state = HttpConnection::State::kDraining;
            conn->connections->drain_and_end(*conn);
        } else if (conn->state != HttpConnection::State::kDraining && conn->head) {
            conn->head->close = true;
        } else if (conn->state == HttpConnection::State::kHead && conn->connections->idle_timeout == 0) {
            us_socket_arm(s, kHeadSecondsWhenStopping);
        }
    }, &fresh_seconds);
}

void HttpConnections::close_all() {
    us_socket_context_each(http_, [](us_socket_t *s, void *) { us_socket_close(0, s, 0, nullptr); }, nullptr);
}

}  // namespace uwserve
