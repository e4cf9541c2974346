#include "py/server/stop.h"

#include <algorithm>
#include <cmath>

#include "py/server/core.h"
#include "py/websocket/queue.h"
#include "uws/loop/clock.h"
#include "uws/websocket/close.h"

namespace uwserve {

namespace {

// How long sockets may flush their backlog after a forced stop; then they are cut.
constexpr unsigned kForcedStopSeconds = 2;

// A connection that was just made, and whose request is still on its way, has this long after a stop with a deadline.
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
    core_.instance->listeners().close();
    core_.instance->connections().wind_down(fresh_seconds);
}

// Calls `begin_here` on the loop's thread; run_due() follows at the top of a turn. False with an exception set.
template <typename Begin>
bool Stop::begin(bool has_due, Begin begin_here) {
    if (!core_.on_loop_thread()) {
        return core_.post([begin_here = std::move(begin_here)](ServerCore &core) mutable {
            if (core.finish.is_done()) return;
            begin_here(core.stop);
            core.stop.run_due();
        }, "Server.stop");
    }
    if (!core_.instance) {
        has_started_ = true;
        core_.finish.set_done();
        return true;
    }
    if (has_due && core_.running() && !core_.post([](ServerCore &core) { core.stop.run_due(); }, "Server.stop"))
        return false;
    ServerCore::DispatchScope entry(core_);
    begin_here(*this);
    return true;
}

bool Stop::start(bool force) {
    if (!core_.check_alive("Server.stop")) return false;
    if (core_.finish.is_done() || (has_started_ && (is_forced_ || !force))) return true;
    return begin(force, [force](Stop &stop) { stop.start_here(force); });
}

// Makes room for the handles of all sockets. A stop needs no memory: without room, the sockets that are not in the list
// end at their deadline, and their close handlers run then.
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
    const uint64_t deadline_ns = monotonic_ns() + static_cast<uint64_t>(std::min(seconds, kLongest) * 1e9);
    if (!core_.check_alive("Server.stop")) return false;
    if (core_.finish.is_done() || is_forced_) return true;
    return begin(!closes_sockets_, [deadline_ns, code, reason = std::move(reason)](Stop &stop) mutable {
        if (!stop.is_forced_) stop.start_here_by(deadline_ns, code, std::move(reason));
    });
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

// --- at the top of a turn ---

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

void Stop::open_timer(Instance &instance) { timer_.open<&Stop::on_timer>(instance.loop(), this); }

void Stop::arm_timer() {
    uint64_t now = monotonic_ns();
    uint64_t ms = deadline_ns_ > now ? (deadline_ns_ - now + 999'999) / 1'000'000 : 1;
    timer_.arm(static_cast<int>(std::min(ms, kLongestTimerMs)));
}

void Stop::on_timer() {
    if (monotonic_ns() < deadline_ns_) {
        arm_timer();
    } else {
        cut_connections();
    }
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
