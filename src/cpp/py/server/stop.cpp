// Stopping a server, in three ways: stop() waits until everybody has left; stop(True) tells every socket 1001 and cuts what
// is left after two seconds (both as Bun); with a deadline every socket is told, has that long to read all that was
// accepted for sending and to answer, and is cut then, pending requests with it.
//
// A stop goes from mild to hard only: a deadline is never moved out, and what was told once is not told again. The server
// ends (finish) where its last connection does.
//
// A stop may be called inside any handler, with that handler's socket corked. So the call runs no handler and no work that
// was posted: it stops listening, stop(True) also closes the sockets, and the rest is due at the top of the next turn
// (run_due), when nothing of the user's is on the stack. While no thread runs the loop there are no turns: it is then done
// before the outermost call returns (DispatchScope).
//
// No message is lost on the way from another thread, either: its send() has answered as soon as the message was posted, and
// that happens with the GIL, as does closing. So the posted ones are sent first, and from the last look at the queue to the
// last Close frame no Python code runs that could let go of the GIL.
#include <algorithm>
#include <cmath>

#include "py/websocket/queue.h"

namespace uwserve {

namespace {

// What sockets get to flush their backlog in after a forced stop; the rest is cut.
constexpr unsigned kForcedStopSeconds = 2;

// A connection that was just made, and whose request is on its way to us, has this long after a stop with a deadline.
constexpr unsigned kFreshSeconds = 1;

// The timer takes an int of milliseconds; a later deadline is looked at again and again.
constexpr uint64_t kLongestTimerMs = 3'600'000;

constexpr int kStopCode = 1001;
constexpr const char *kStopReason = "Server closed";

WsObject *handle_of(us_socket_t *s) {
    return static_cast<WsObject *>(reinterpret_cast<Socket *>(s)->getUserData()->handle);
}

}  // namespace

void ServerCore::begin_stop(unsigned fresh_seconds) {
    if (stopping) return;
    stopping = true;
    close_listeners();
    instance->connections().wind_down(fresh_seconds);
}

bool ServerCore::stop(bool force) {
    if (!check_alive("Server.stop")) return false;
    if (finished || (stopping && (forced || !force))) return true;
    if (!on_loop_thread()) {
        return post([force](ServerCore &core) {
            if (core.finished) return;
            core.stop_here(force);
            core.run_due();
        }, "Server.stop");
    }
    if (!instance) {
        stopping = finished = true;
        return true;
    }
    if (force && !post_due()) return false;
    DispatchScope entry(*this);
    stop_here(force);
    return true;
}

// For a list of all sockets' handles. When memory is short for it, the sockets that are not in it end at their deadline, and
// their close handlers run then: a stop needs no memory.
void ServerCore::make_room_for_all(std::vector<Ref> &handles) {
    try {
        handles.reserve(handles.size() + pending_websockets);
    } catch (const std::bad_alloc &) {
        failed(Origin::kStop);
    }
}

// Runs no Python code but the cancelling of tasks.
void ServerCore::stop_here(bool force) {
    begin_stop(0);
    if (!force || forced) return;
    forced = true;
    make_room_for_all(untold_);
    coroutines.cancel_tasks();
    instance->connections().close_all();
    us_socket_context_each(instance->ws_context(), [](us_socket_t *s, void *user) {
        auto *core = static_cast<ServerCore *>(user);
        WsObject *handle = handle_of(s);
        if (handle && core->untold_.size() < core->untold_.capacity())
            core->untold_.push_back(core->start_close(handle, kStopCode, kStopReason));
        if (!s->closed) us_socket_deadline(s, kForcedStopSeconds);
    }, this);
    if (!untold_.empty()) instance->loop()->num_polls++;  // the server does not end before their Close is sent
}

bool ServerCore::stop_within(double seconds, int code, std::string reason) {
    constexpr double kLongest = 1e9;  // seconds; beyond it nanoseconds would not fit
    auto ns = static_cast<uint64_t>(std::min(seconds, kLongest) * 1e9);
    return stop_by(us_monotonic_ns() + ns, code, std::move(reason));
}

bool ServerCore::stop_by(uint64_t deadline_ns, int code, std::string reason) {
    if (!check_alive("Server.stop")) return false;
    if (finished || forced) return true;
    if (!on_loop_thread()) {
        return post([deadline_ns, code, reason](ServerCore &core) {
            if (core.finished || core.forced) return;
            core.stop_here_by(deadline_ns, code, reason);
            core.run_due();
        }, "Server.stop");
    }
    if (!instance) {
        stopping = finished = true;
        return true;
    }
    if (!told_ && !post_due()) return false;
    DispatchScope entry(*this);
    stop_here_by(deadline_ns, code, std::move(reason));
    return true;
}

// Runs no Python code.
void ServerCore::stop_here_by(uint64_t deadline_ns, int code, std::string reason) {
    begin_stop(kFreshSeconds);
    if (!stop_deadline_ns_ || deadline_ns < stop_deadline_ns_) {
        stop_deadline_ns_ = deadline_ns;
        if (told_ && !farewell_) arm_stop_timer();  // else the Close frames go first, however short the deadline is
    }
    if (told_) return;
    told_ = true;
    farewell_.emplace(code, std::move(reason));
}

// --- what is due ---

// For a caller on the loop's thread. False with an exception set.
bool ServerCore::post_due() {
    return !running() || post([](ServerCore &core) { core.run_due(); }, "Server.stop");
}

// At the top of a turn, or with no thread running the loop: nothing of the user's is on the stack, and no socket corked.
void ServerCore::run_due() {
    if (!instance) return;
    DispatchScope entry(*this);
    if (std::optional farewell = std::exchange(farewell_, std::nullopt)) {
        tell_all(farewell->first, farewell->second);
        arm_stop_timer();
    }
    if (!forced) return;
    if (std::vector<Ref> untold = std::exchange(untold_, {}); !untold.empty()) {
        instance->loop()->num_polls--;
        for (Ref &handle : untold) tell_closed_here(std::move(handle), kStopCode, kStopReason);
    }
    finish_closes(*this);
}

// At the top of a turn. The close handlers run when all Close frames are sent: a handler cannot make another socket miss its
// messages.
void ServerCore::tell_all(int code, const std::string &reason) {
    send_posted();
    struct Telling {
        ServerCore &core;
        int code;
        const std::string &reason;
        std::vector<Ref> told;
    } telling{*this, code, reason, {}};
    make_room_for_all(telling.told);
    us_socket_context_each(instance->ws_context(), [](us_socket_t *s, void *user) {
        auto &[core, code, reason, told] = *static_cast<Telling *>(user);
        WsObject *handle = handle_of(s);
        if (!handle || told.size() == told.capacity()) return;  // without room: the stop's timer cuts it
        told.push_back(core.start_close(handle, code, reason));
        if (!s->closed) us_socket_deadline(s, 0);  // the stop's deadline is its own
    }, &telling);
    for (Ref &handle : telling.told) tell_closed_here(std::move(handle), code, reason);
}

// Runs what was posted for sockets, in order. Calls of Python functions (call_soon) keep their place in the queue: they are
// no part of what this server has promised to send, and the caller's handler is not to be interrupted by them.
void ServerCore::send_posted() {
    for (;;) {
        take_posted();
        auto next = std::find_if(taken_.begin(), taken_.end(), [](const Posted &work) { return bool(work.fn); });
        if (next == taken_.end()) return;
        Posted work = std::move(*next);
        taken_.erase(next);
        run(std::move(work));
    }
}

// With the instance: a stop needs no memory.
void ServerCore::make_stop_timer() {
    stop_timer_ = us_create_timer(instance->loop(), 0, sizeof(ServerCore *));
    *static_cast<ServerCore **>(us_timer_ext(stop_timer_)) = this;
}

void ServerCore::arm_stop_timer() {
    uint64_t now = us_monotonic_ns();
    uint64_t ms = stop_deadline_ns_ > now ? (stop_deadline_ns_ - now + 999'999) / 1'000'000 : 1;
    us_timer_set(stop_timer_, [](us_timer_t *timer) {
        ServerCore *core = *static_cast<ServerCore **>(us_timer_ext(timer));
        if (us_monotonic_ns() < core->stop_deadline_ns_) {
            core->arm_stop_timer();
        } else {
            core->cut();
        }
    }, static_cast<int>(std::min(ms, kLongestTimerMs)), 0);
}

// The deadline of a stop: whoever is left has had his time.
void ServerCore::cut() {
    gil.ensure();
    forced = true;
    coroutines.cancel_tasks();
    instance->connections().close_all();
    us_socket_context_each(instance->ws_context(), [](us_socket_t *s, void *core) {
        if (WsObject *handle = handle_of(s)) {
            static_cast<ServerCore *>(core)->terminate_handle(handle);
        } else {
            us_socket_close(0, s, 0, nullptr);
        }
    }, this);
    finish_closes(*this);
}

void ServerCore::on_expire(Socket *ws) {
    gil.ensure();
    if (WsObject *handle = handle_of(raw(ws))) close_handle(handle, 1001, "Maximum lifetime reached");
}

}  // namespace uwserve
