#include "py/server/stop.h"

#include <algorithm>
#include <cmath>

#include "py/server/core.h"
#include "py/websocket/queue.h"
#include "uws/websocket/close.h"

namespace uwserve {

namespace {

// How long sockets may flush their backlog after a forced stop; the rest is cut.
constexpr unsigned kForcedStopSeconds = 2;

// A connection that was just made, and whose request is on its way to us, has this long after a stop with a deadline.
constexpr unsigned kFreshSeconds = 1;

// The timer takes an int of milliseconds; for a later deadline it is armed again and again.
constexpr uint64_t kLongestTimerMs = 3'600'000;

constexpr int kStopCode = 1001;
constexpr const char *kStopReason = "Server closed";

WsObject *handle_of(Socket *ws) { return static_cast<WsObject *>(ws->getUserData()->handle); }

}  // namespace

void Stop::wind_down(unsigned fresh_seconds) {
    if (has_started_) return;
    has_started_ = true;
    core_.close_listeners();
    core_.instance->connections().wind_down(fresh_seconds);
}

bool Stop::start(bool force) {
    if (!core_.check_alive("Server.stop")) return false;
    if (core_.finished || (has_started_ && (is_forced_ || !force))) return true;
    if (!core_.on_loop_thread()) {
        return core_.post([force](ServerCore &core) {
            if (core.finished) return;
            core.stop.start_here(force);
            core.stop.run_due();
        }, "Server.stop");
    }
    if (!core_.instance) {
        has_started_ = core_.finished = true;
        return true;
    }
    if (force && !post_due()) return false;
    ServerCore::DispatchScope entry(core_);
    start_here(force);
    return true;
}

// For a list of all sockets' handles. When memory is short for it, the sockets that are not in it end at their deadline, and
// their close handlers run then: a stop needs no memory.
void Stop::reserve(std::vector<Ref> &handles) {
    try {
        handles.reserve(handles.size() + core_.pending_websockets);
    } catch (const std::bad_alloc &) {
        core_.failed(Origin::kStop);
    }
}

// Runs no Python code but the cancelling of tasks.
void Stop::start_here(bool force) {
    wind_down(0);
    if (!force || is_forced_) return;
    is_forced_ = true;
    reserve(closed_);
    core_.coroutines.cancel_tasks();
    core_.instance->connections().close_all();
    core_.instance->for_each_websocket([this](Socket *ws) {
        WsObject *handle = handle_of(ws);
        if (handle && closed_.size() < closed_.capacity())
            closed_.push_back(core_.start_close(handle, kStopCode, kStopReason));
        set_deadline(ws, kForcedStopSeconds);
    });
    if (!closed_.empty()) core_.instance->hold_open();  // the server does not end before their Close is sent
}

bool Stop::start_within(double seconds, int code, std::string reason) {
    constexpr double kLongest = 1e9;  // seconds; beyond it nanoseconds would not fit
    auto ns = static_cast<uint64_t>(std::min(seconds, kLongest) * 1e9);
    return start_by(us_monotonic_ns() + ns, code, std::move(reason));
}

bool Stop::start_by(uint64_t deadline_ns, int code, std::string reason) {
    if (!core_.check_alive("Server.stop")) return false;
    if (core_.finished || is_forced_) return true;
    if (!core_.on_loop_thread()) {
        return core_.post([deadline_ns, code, reason](ServerCore &core) {
            if (core.finished || core.stop.is_forced_) return;
            core.stop.start_here_by(deadline_ns, code, reason);
            core.stop.run_due();
        }, "Server.stop");
    }
    if (!core_.instance) {
        has_started_ = core_.finished = true;
        return true;
    }
    if (!closes_sockets_ && !post_due()) return false;
    ServerCore::DispatchScope entry(core_);
    start_here_by(deadline_ns, code, std::move(reason));
    return true;
}

// Runs no Python code.
void Stop::start_here_by(uint64_t deadline_ns, int code, std::string reason) {
    wind_down(kFreshSeconds);
    if (!deadline_ns_ || deadline_ns < deadline_ns_) {
        deadline_ns_ = deadline_ns;
        if (closes_sockets_ && !farewell_)
            arm_timer();  // else the Close frames go first, however short the deadline is
    }
    if (closes_sockets_) return;
    closes_sockets_ = true;
    farewell_.emplace(code, std::move(reason));
}

// --- what is due ---

// For a caller on the loop's thread. False with an exception set.
bool Stop::post_due() {
    return !core_.running() || core_.post([](ServerCore &core) { core.stop.run_due(); }, "Server.stop");
}

void Stop::run_due() {
    if (!core_.instance) return;
    ServerCore::DispatchScope entry(core_);
    if (std::optional farewell = std::exchange(farewell_, std::nullopt)) {
        close_sockets(farewell->first, farewell->second);
        arm_timer();
    }
    if (!is_forced_) return;
    if (std::vector<Ref> closed = std::exchange(closed_, {}); !closed.empty()) {
        core_.instance->release_hold();
        for (Ref &handle : closed) core_.finish_close_safely(std::move(handle), kStopCode, kStopReason);
    }
    finish_closes(core_);
}

// The close handlers run when all Close frames are sent: a handler cannot make another socket miss its messages.
void Stop::close_sockets(int code, const std::string &reason) {
    core_.posted_work.run_functions();
    std::vector<Ref> closed;
    reserve(closed);
    core_.instance->for_each_websocket([&](Socket *ws) {
        WsObject *handle = handle_of(ws);
        if (!handle || closed.size() == closed.capacity()) return;  // without room: the stop's timer cuts it
        closed.push_back(core_.start_close(handle, code, reason));
        set_deadline(ws, 0);  // the stop's deadline replaces it
    });
    for (Ref &handle : closed) core_.finish_close_safely(std::move(handle), code, reason);
}

// --- the deadline ---

void Stop::make_timer() {
    timer_ = us_create_timer(core_.instance->loop(), 0, sizeof(Stop *));
    *static_cast<Stop **>(us_timer_ext(timer_)) = this;
}

void Stop::arm_timer() {
    uint64_t now = us_monotonic_ns();
    uint64_t ms = deadline_ns_ > now ? (deadline_ns_ - now + 999'999) / 1'000'000 : 1;
    us_timer_set(timer_, [](us_timer_t *timer) {
        Stop *stop = *static_cast<Stop **>(us_timer_ext(timer));
        if (us_monotonic_ns() < stop->deadline_ns_) {
            stop->arm_timer();
        } else {
            stop->cut_connections();
        }
    }, static_cast<int>(std::min(ms, kLongestTimerMs)), 0);
}

// At the deadline.
void Stop::cut_connections() {
    core_.gil.ensure();
    is_forced_ = true;
    core_.coroutines.cancel_tasks();
    core_.instance->connections().close_all();
    core_.instance->for_each_websocket([this](Socket *ws) {
        if (WsObject *handle = handle_of(ws)) {
            core_.terminate_handle(handle);
        } else {
            close_at_once(ws);
        }
    });
    finish_closes(core_);
}

int Stop::traverse(visitproc visit, void *arg) const {
    for (const Ref &handle : closed_) Py_VISIT(handle.get());
    return 0;
}

}  // namespace uwserve
