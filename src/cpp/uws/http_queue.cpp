// What the gate must put off until no dispatch is on the stack: the next held request of an answered connection, the next
// piece of a streamed body, and bytes that arrived behind a handshake before it was accepted.
#include <exception>
#include <utility>

#include "http_gate.h"

namespace uwserve {

namespace {

// One connection's turn: the others have theirs, whatever it throws. (Upstream, which calls run_queues(), would lose them.)
template <typename F>
void contained(us_socket_t *s, F act) {
    try {
        or_close(s, act);
    } catch (const std::exception &) {
    }
}

}  // namespace

void HttpGate::queue_ready(HttpConn &conn) {
    if (conn.ready_queued) return;
    ready_.push_back(&conn);
    conn.ready_queued = true;
    wake();
}

void HttpGate::wake() {
    if (wake_queued_) return;
    reinterpret_cast<uWS::Loop *>(http_->loop)->defer([this] { run_queues(); });
    wake_queued_ = true;
}

void HttpGate::run_queues() {
    wake_queued_ = false;
    auto late = std::exchange(late_, {});
    while (!late.empty()) {
        auto entry = late.begin();
        us_socket_t *ws = entry->ws;
        if (ws->closed) {
            late.erase(entry);
            continue;
        }
        if (ws->pause_reasons & US_PAUSE_USER) {
            late_.splice(late_.end(), late, entry);
            continue;
        }
        std::string bytes = std::move(entry->bytes);
        late.erase(entry);
        ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
        us_socket_resume(ws, US_PAUSE_HELD);
        contained(ws, [&] { us_socket_deliver(ws, bytes.data(), bytes.size()); });
    }
    // A connection can queue itself again while it is consumed, and on_close takes it off the list.
    for (size_t n = ready_.size(); n && !ready_.empty(); n--) {
        HttpConn *conn = ready_.front();
        ready_.erase(ready_.begin());
        conn->ready_queued = false;
        if (conn->s->closed) continue;
        if (conn->stream) {
            contained(conn->s, [&] { pump(*conn); });
            continue;
        }
        if (conn->state != HttpConn::State::kHead) continue;
        us_socket_resume(conn->s, US_PAUSE_HELD);
        std::string held = std::exchange(conn->held, {});
        contained(conn->s, [&] { consume(*conn, held); });
    }
}

// Nothing may overtake them: the socket is not read before.
void HttpGate::hold_late_bytes(us_socket_t *ws, std::string bytes) {
    Limits::Kept kept(limits_, bytes.size());
    late_.push_back({ws, std::move(bytes), std::move(kept)});
    us_socket_pause(ws, US_PAUSE_HELD);
    ws->user_bits |= kHasLateBytes;
}

void HttpGate::deliver_late_bytes(us_socket_t *ws) {
    if (ws->user_bits & kHasLateBytes) wake();
}

void HttpGate::forget_late_bytes(us_socket_t *ws) {
    late_.remove_if([ws](const LateBytes &entry) { return entry.ws == ws; });
}

void HttpGate::drop_late_bytes(us_socket_t *ws) {
    if (!(ws->user_bits & kHasLateBytes)) return;
    forget_late_bytes(ws);
    ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
    us_socket_resume(ws, US_PAUSE_HELD);
}

}  // namespace uwserve
