// How a server stops, in three ways: stop() waits until every connection has ended; stop(True) closes every socket with 1001 and
// cuts what is left after two seconds (both as Bun); with a deadline every socket is closed, has that long to read all that
// was accepted for sending and to answer, and is cut then, pending requests with it.
//
// A stop goes from mild to hard only: a deadline is never moved out, and a socket is closed once. The server ends
// (ServerCore::finish) where its last connection does.
//
// A stop may be called inside any handler, with that handler's socket corked. So the call runs no handler and no posted
// work: it stops listening, stop(True) also closes the sockets, and the rest is due at the top of the next turn (run_due),
// when no user code is on the stack. While no thread runs the loop there are no turns: it is then done before the outermost
// call returns (DispatchScope).
//
// Messages from other threads are not lost: their send() has answered as soon as the message was posted, and that happens
// with the GIL, as does closing. So posted messages are sent first, and from the last look at the queue to the last Close
// frame no Python code runs that could let go of the GIL.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "py/interpreter/ref.h"

struct us_timer_t;

namespace uwserve {

class ServerCore;

class Stop {
  public:
    explicit Stop(ServerCore &core) : core_(core) {}
    Stop(const Stop &) = delete;
    Stop &operator=(const Stop &) = delete;

    // Any thread. False with an exception set.
    bool start(bool force);
    bool start_within(double seconds, int code, std::string reason);

    bool has_started() const { return has_started_; }
    bool is_forced() const { return is_forced_; }

    // What start() has left to do at the top of a turn: no user code is on the stack, and no socket is corked.
    bool is_due() const { return farewell_ || !closed_.empty(); }
    void run_due();

    // With the instance, so that a stop needs no memory; and when the timer has gone with the instance's loop.
    void make_timer();
    void forget_timer() { timer_ = nullptr; }

    int traverse(visitproc visit, void *arg) const;
    // Drops the handles whose close handlers have not run.
    void abandon() { std::vector<Ref> dropped = std::exchange(closed_, {}); }

  private:
    void wind_down(unsigned fresh_seconds);
    void start_here(bool force);
    bool start_by(uint64_t deadline_ns, int code, std::string reason);
    void start_here_by(uint64_t deadline_ns, int code, std::string reason);
    bool post_due();
    void reserve(std::vector<Ref> &handles);
    void close_sockets(int code, const std::string &reason);
    void arm_timer();
    void cut_connections();

    ServerCore &core_;
    us_timer_t *timer_ = nullptr;  // the instance's
    uint64_t deadline_ns_ = 0;  // 0: a stop without one
    std::optional<std::pair<int, std::string>> farewell_;  // due: the code and reason to close every socket with
    std::vector<Ref>
        closed_;  // due: start(true) has closed them, and their close handlers have not run; the instance is held open for them
    bool has_started_ = false, is_forced_ = false;
    bool closes_sockets_ = false;  // a stop with a deadline has closed every socket, or is about to
};

}  // namespace uwserve
