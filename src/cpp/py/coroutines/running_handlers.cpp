#include "py/coroutines/running_handlers.h"

#include <algorithm>
#include <new>

#include "py/websocket/queue.h"

namespace uwserve {

namespace {

// WsObject::held_units counts in these, rounded up.
constexpr size_t kHeldUnit = 16;

// Half of what a WsObject can count. Whatever the options say, the connection is crowded from there on, and one more
// handler with the largest possible message still fits.
constexpr uint64_t kMostRunning = 1u << 23, kMostHeldUnits = 1u << 29;

// As many closed sockets may wait in line without being dropped.
constexpr size_t kManyClosed = 32;

// While sockets wait for memory that no handler holds, it is checked this often.
constexpr int kMemoryPollMs = 100;

uint64_t units_of(size_t bytes) { return (bytes + kHeldUnit - 1) / kHeldUnit; }

RunningHandler::Kind kind_of(WsObject *ws, Origin origin) {
    using Kind = RunningHandler::Kind;
    if (!ws) return origin == Origin::kCallSoon ? Kind::kNone : Kind::kRequest;  // no peer can start one
    return origin == Origin::kOpen || origin == Origin::kClose ? Kind::kOnce : Kind::kEvent;
}

uint64_t count_of(const WsObject *ws) { return uint64_t{ws->running} + ws->running_once; }

}  // namespace

// --- the bounds ---

bool RunningHandlers::is_server_full(bool counts_bytes) const {
    uint64_t max = core_.limits.figures.max_concurrent_handlers;
    return (max && extra_ + orphans(0) >= max) || (counts_bytes && bytes_ && !core_.limits.has_memory_elsewhere(0));
}

// `beginning`: pending requests that have no handler yet.
uint64_t RunningHandlers::orphans(uint64_t beginning) const {
    uint64_t pending =
        core_.instance ? core_.instance->connections().pending.load(std::memory_order_relaxed) - beginning : 0;
    return orphans_ + (requests_ > pending ? requests_ - pending : 0);
}

bool RunningHandlers::refuses_requests() const {
    uint64_t max = core_.limits.figures.max_concurrent_handlers;
    return max && requests_ + orphans_ >= max && orphans(1) >= max;
}

bool RunningHandlers::is_over(WsObject *ws, bool *for_server) const {
    uint64_t max = core_.options.max_concurrent_handlers ? core_.options.max_concurrent_handlers : kMostRunning;
    uint64_t max_units = core_.options.max_concurrent_handlers ? kMaxHeldBytes / kHeldUnit : kMostHeldUnits;
    *for_server = ws->running > 0 && is_server_full(ws->held_units > 0);
    return *for_server || ws->running >= std::min(max, kMostRunning) || ws->held_units >= max_units;
}

// --- counting ---

void RunningHandlers::began(RunningHandler &handler, WsObject *ws, Origin origin) {
    handler.kind = kind_of(ws, origin);
    if (handler.kind == RunningHandler::Kind::kNone) return;
    running_++;
    total_++;
    if (!ws) {
        requests_++;
        return;
    }
    if (!ws->ws) {
        orphans_++;
    } else if (count_of(ws)) {
        extra_++;
    }
    if (handler.kind == RunningHandler::Kind::kOnce) {
        ws->running_once++;
        return;
    }
    ws->running++;
    handler.bytes = argument_ ? message_bytes(argument_) : 0;
    if (handler.bytes) {
        ws->held_units += units_of(handler.bytes);
        bytes_ += handler.bytes;
        core_.limits.charge_unattached(handler.bytes);
    }
    if (ws->ws) crowd(ws);
}

void RunningHandlers::ended(RunningHandler &handler, WsObject *ws) {
    RunningHandler was = std::exchange(handler, RunningHandler());
    if (was.kind == RunningHandler::Kind::kNone) return;
    running_--;
    if (was.bytes) {
        bytes_ -= was.bytes;
        core_.limits.discharge_unattached(was.bytes);
    }
    if (was.kind == RunningHandler::Kind::kRequest) {
        requests_--;
    } else {
        if (was.kind == RunningHandler::Kind::kOnce) {
            ws->running_once--;
        } else {
            ws->running--;
            ws->held_units -= units_of(was.bytes);
        }
        if (!ws->ws) {
            orphans_--;
        } else if (count_of(ws)) {
            extra_--;
        }
        reconsider(ws);
    }
    if (!waiting_.empty()) reconsider_waiting(1);
}

// The socket's handlers count for the server from now on. Its queued events are delivered, as no more can come: `close`
// must not wait for handlers that may never end.
void RunningHandlers::socket_closed(WsObject *ws) {
    if (ws->queue && ws->queue->is_in_line) closed_++;  // it is dropped later: no Python code may run in here
    if (!count_of(ws)) return;
    extra_ -= count_of(ws) - 1;
    orphans_ += count_of(ws);
    if (!ws->queue || !ws->queue->is_crowded) return;
    ws->queue->is_crowded = false;
    if (!ws->queue->events.is_empty()) deliver_soon(ws);
}

// --- waiting ---

void RunningHandlers::crowd(WsObject *ws) {
    bool for_server;
    if ((ws->queue && ws->queue->is_crowded) || !is_over(ws, &for_server)) [[likely]]
        return;
    WsQueue *queue = queue_of(ws);
    if (!queue) {
        PyErr_Clear();  // no memory for a queue: the next handler tries again
        return;
    }
    if (for_server) {
        if (!get_in_line(ws)) return;
        core_.limits.refused(Refusal::kConcurrentHandlers);
        if (!core_.limits.has_memory_elsewhere(0)) arm_timer();
    } else {
        paused_++;
    }
    queue->is_crowded = true;
    pause_reading(ws);
}

// False: no memory for it. A socket that is in the line from before keeps its place.
bool RunningHandlers::get_in_line(WsObject *ws) {
    if (ws->queue->is_in_line) return true;
    try {
        waiting_.push_back(new_ref(ws));
    } catch (const std::bad_alloc &) {
        return false;
    }
    ws->queue->is_in_line = true;
    if (closed_ > kManyClosed && closed_ > waiting_.size() / 2) [[unlikely]]
        drop_closed();
    return true;
}

// Drops closed sockets. Freeing one may run Python code, which must find the line in order.
void RunningHandlers::drop_closed() {
    closed_ = 0;
    size_t open = 0;
    for (Ref &ws : waiting_) {
        if (as_ws(ws.get())->ws) std::swap(waiting_[open++], ws);
    }
    while (!waiting_.empty() && !as_ws(waiting_.back().get())->ws) {
        Ref last = std::move(waiting_.back());
        waiting_.pop_back();
    }
}

// Lets the socket continue if it is not crowded any more.
void RunningHandlers::reconsider(WsObject *ws) {
    bool for_server;
    if (!ws->queue || !ws->queue->is_crowded || is_over(ws, &for_server)) return;
    ws->queue->is_crowded = false;
    if (core_.is_forked || !ws->ws) return;
    if (ws->queue->events.is_empty()) {
        continue_reading(ws);
    } else {
        deliver_soon(ws);
    }
}

// The oldest sockets come first; those that must wait longer are queued again as the youngest.
void RunningHandlers::reconsider_waiting(size_t at_most) {
    for (size_t looks = waiting_.size(); looks && at_most; looks--) {
        if (is_server_full(true)) {
            if (!core_.limits.has_memory_elsewhere(0)) arm_timer();
            return;
        }
        Ref next = std::move(waiting_.front());
        waiting_.pop_front();
        WsObject *ws = as_ws(next.get());
        ws->queue->is_in_line = false;
        if (!ws->ws && closed_) closed_--;
        if (!ws->ws || !ws->queue->is_crowded) continue;
        reconsider(ws);
        if (ws->queue->is_crowded) {
            ws->queue->is_in_line = true;
            waiting_.push_back(std::move(next));  // takes no memory, as it has just been removed
        } else {
            at_most--;
        }
    }
}

// Nothing reports memory that becomes free elsewhere.
void RunningHandlers::arm_timer() {
    if (!core_.instance || core_.is_forked || is_polling_) return;
    if (!timer_.is_open()) timer_.open<&RunningHandlers::on_timer>(core_.instance->loop(), this);
    timer_.arm(kMemoryPollMs);
    is_polling_ = true;
}

void RunningHandlers::on_timer() {
    core_.gil.ensure();
    is_polling_ = false;
    reconsider_waiting(waiting_.size());
}

void RunningHandlers::close_timer() {
    timer_.close();
    is_polling_ = false;
}

void RunningHandlers::limits_changed() {
    if (!core_.instance || core_.is_forked) return;
    core_.instance->for_each_websocket([this](Socket *socket) {
        auto *ws = static_cast<WsObject *>(socket->getUserData()->handle);
        if (ws && ws->queue) reconsider(ws);
    });
}

// --- garbage collection ---

int RunningHandlers::traverse(visitproc visit, void *arg) {
    for (const Ref &ws : waiting_) Py_VISIT(ws.get());
    return 0;
}

void RunningHandlers::clear() {
    closed_ = 0;
    while (!waiting_.empty()) {  // an empty deque would take memory, which may be short
        Ref dropped = std::move(waiting_.front());
        waiting_.pop_front();
    }
}

}  // namespace uwserve
