#include "uws/http/deferred.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "uws/http/connections.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

// An exception ends the socket that it concerns. It must not reach uWebSockets, which would lose the visits of the others.
template <typename F>
void contained(us_socket_t *s, F act) {
    try {
        or_close(s, act);
    } catch (const std::exception &) {
    }
}

}  // namespace

void Deferred::queue_run() {
    if (is_run_queued_) return;
    reinterpret_cast<uWS::Loop *>(loop_)->defer([this] { run(); });
    is_run_queued_ = true;
}

void Deferred::run() {
    is_run_queued_ = false;
    for (size_t n = late_.size(); n && !late_.empty(); n--) visit(late_.begin());
    // A connection can queue itself again during its visit, and on_close removes it from the queue.
    for (size_t n = ready_.size(); n && !ready_.empty(); n--) {
        HttpConnection *conn = ready_.front();
        ready_.pop_front();
        conn->is_queued = false;
        if (!conn->s->closed) visit(*conn);
    }
}

// --- requests and streams ---

void Deferred::add(HttpConnection &conn) {
    if (conn.is_queued) return;
    ready_.push_back(&conn);
    conn.is_queued = true;
    queue_run();
}

void Deferred::remove(HttpConnection &conn) {
    if (std::exchange(conn.is_queued, false)) std::erase(ready_, &conn);
}

void Deferred::visit(HttpConnection &conn) {
    if (conn.stream) {
        contained(conn.s, [&] { pump_stream(conn); });
    } else if (conn.state == HttpConnection::State::kHead) {
        us_socket_resume(conn.s, US_PAUSE_HELD);
        std::string held = std::exchange(conn.held, {});
        contained(conn.s, [&] { conn.connections->consume(conn, held); });
    }
}

// --- late bytes ---

void Deferred::hold_late_bytes(us_socket_t *ws, std::string bytes) {
    late_.push_back({ws, {limits_, bytes.size()}, std::move(bytes)});
    us_socket_pause(ws, US_PAUSE_HELD);
    ws->user_bits |= kHasLateBytes;
    queue_run();
}

void Deferred::deliver_late_bytes(us_socket_t *ws) {
    if (ws->user_bits & kHasLateBytes) queue_run();
}

void Deferred::visit(std::list<LateBytes>::iterator entry) {
    late_.splice(late_.end(), late_, entry);  // next time, the others come first
    us_socket_t *ws = entry->ws;
    if (!ws->closed) {
        if (ws->pause_reasons & US_PAUSE_USER) return;
        entry->is_visited = true;
        bool is_done = deliver_share(*entry);
        entry->is_visited = false;
        if (!is_done) {
            entry->charge.change(entry->bytes.size() - entry->begin);
            if (!(ws->pause_reasons & US_PAUSE_USER)) queue_run();
            return;
        }
    }
    late_.erase(entry);
    if (ws->closed) return;
    ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
    us_socket_resume(ws, US_PAUSE_HELD);
}

// A share is at least as much as a read of the socket brings, and then as much as others may wait for. True: all bytes
// are delivered or dropped.
bool Deferred::deliver_share(LateBytes &entry) {
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

// An entry that is being visited is erased at the end of its visit.
void Deferred::forget_late_bytes(us_socket_t *ws) {
    late_.remove_if([ws](LateBytes &entry) {
        if (entry.ws != ws) return false;
        entry.is_dropped = true;
        return !entry.is_visited;
    });
}

void Deferred::drop_late_bytes(us_socket_t *ws) {
    if (!(ws->user_bits & kHasLateBytes)) return;
    forget_late_bytes(ws);
    ws->user_bits &= static_cast<uint8_t>(~kHasLateBytes);
    us_socket_resume(ws, US_PAUSE_HELD);
}

}  // namespace uwserve
