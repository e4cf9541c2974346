// What HttpConnections must put off until no dispatch is on the stack: the next held request of an answered connection, the next
// piece of a streamed body, and bytes that arrived behind a handshake before it was accepted. And what it puts off for the
// sake of others: each connection has one visit a turn here, and a visit has a bound (kRequestsPerTurn, kTurnTime).
#include <algorithm>
#include <exception>
#include <utility>

#include "uws/http/connections.h"
#include "usockets/tcp/read.h"

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

void HttpConnections::queue_ready(HttpConnection &conn) {
    if (conn.ready_queued) return;
    ready_.push_back(&conn);
    conn.ready_queued = true;
    wake();
}

void HttpConnections::wake() {
    if (wake_queued_) return;
    reinterpret_cast<uWS::Loop *>(http_->loop)->defer([this] { run_queues(); });
    wake_queued_ = true;
}

// A turn's share of one connection's late bytes: as much as a read of the socket brings at least, then as long as others may
// wait. Whatever is left keeps its place in front of what the socket has.
bool HttpConnections::deliver_share(LateBytes &entry) {
    us_socket_t *ws = entry.ws;
    const Turn turn;
    const size_t end = std::min(entry.bytes.size(), entry.begin + kTurnBytes);
    do {
        std::string_view piece(entry.bytes.data() + entry.begin, std::min(kTurnPiece, end - entry.begin));
        entry.begin += piece.size();
        contained(ws, [&] { us_socket_deliver(ws, piece.data(), piece.size()); });
        if (ws->closed || entry.is_dropped) return true;
    } while (entry.begin < end && !(ws->pause_reasons & US_PAUSE_USER) && !turn.is_over());
    return entry.begin == entry.bytes.size();
}

void HttpConnections::run_queues() {
    wake_queued_ = false;
    for (size_t n = late_.size(); n && !late_.empty(); n--) {
        // At the end for the time of its visit, where a handler that drops it finds it.
        late_.splice(late_.end(), late_, late_.begin());
        auto entry = std::prev(late_.end());
        us_socket_t *ws = entry->ws;
        if (!ws->closed) {
            if (ws->pause_reasons & US_PAUSE_USER) continue;
            entry->is_visited = true;
            bool is_done = deliver_share(*entry);
            entry->is_visited = false;
            if (!is_done) {
                entry->kept.change(entry->bytes.size() - entry->begin);
                if (!(ws->pause_reasons & US_PAUSE_USER)) wake();
                continue;
            }
        }
        late_.erase(entry);
        if (ws->closed) continue;
        ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
        us_socket_resume(ws, US_PAUSE_HELD);
    }
    // A connection can queue itself again while it is consumed, and on_close takes it off the list.
    for (size_t n = ready_.size(); n && !ready_.empty(); n--) {
        HttpConnection *conn = ready_.front();
        ready_.pop_front();
        conn->ready_queued = false;
        if (conn->s->closed) continue;
        if (conn->stream) {
            contained(conn->s, [&] { pump(*conn); });
            continue;
        }
        if (conn->state != HttpConnection::State::kHead) continue;
        us_socket_resume(conn->s, US_PAUSE_HELD);
        std::string held = std::exchange(conn->held, {});
        contained(conn->s, [&] { consume(*conn, held); });
    }
}

// Nothing may overtake them: the socket is not read before.
void HttpConnections::hold_late_bytes(us_socket_t *ws, std::string bytes) {
    Limits::MemoryCharge kept(limits_, bytes.size());
    late_.push_back({ws, std::move(bytes), std::move(kept)});
    us_socket_pause(ws, US_PAUSE_HELD);
    ws->user_bits |= kHasLateBytes;
}

void HttpConnections::deliver_late_bytes(us_socket_t *ws) {
    if (ws->user_bits & kHasLateBytes) wake();
}

void HttpConnections::forget_late_bytes(us_socket_t *ws) {
    late_.remove_if([ws](LateBytes &entry) {
        if (entry.ws != ws) return false;
        entry.is_dropped = true;
        return !entry.is_visited;
    });
}

void HttpConnections::drop_late_bytes(us_socket_t *ws) {
    if (!(ws->user_bits & kHasLateBytes)) return;
    forget_late_bytes(ws);
    ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
    us_socket_resume(ws, US_PAUSE_HELD);
}

}  // namespace uwserve
