// How a server stops, in three ways: stop() waits until every connection has ended; stop(True) closes every socket with
// 1001 and cuts the remaining connections after two seconds (both as Bun). With a deadline, every socket is closed and
// has until then to read all messages that were accepted for sending, and to answer; then the remaining connections are
// cut, with their pending requests.
//
// A stop goes from mild to hard only: a deadline is never moved out, and a socket is closed once. The server ends
// (server/finish.h) where its last connection does.
//
// A stop may be called inside any handler, with that handler's socket corked. So the call runs no handler and no posted
// work: it stops listening, and stop(True) also closes the sockets. The rest is due at the top of the next turn
// (run_due), when no user code is on the stack. While no thread runs the loop there are no turns, so the rest is done
// before the outermost call returns (DispatchScope).
//
// Messages from other threads are not lost: their send() has returned as soon as the message was posted, which happens
// with the GIL, as closing does. So posted messages are sent first, and from the last look at the queue to the last
// Close frame no Python code runs that could release the GIL.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "py/interpreter/ref.h"
#include "uws/loop/timer.h"

namespace uwserve {

class Instance;
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

    // The rest of a stop, at the top of a turn: no user code is on the stack, and no socket is corked.
    bool is_due() const { return farewell_ || !closed_.empty(); }
    void run_due();

    // The timer is opened with the instance, so that a stop needs no memory. Throws std::bad_alloc.
    void open_timer(Instance &instance);
    void close_timer() { timer_.close(); }
    void abandon_timer() { timer_.abandon(); }

    int traverse(visitproc visit, void *arg) const;
    // Drops the handles whose close handlers have not run.
    void abandon() { std::vector<Ref> dropped = std::exchange(closed_, {}); }

  private:
    template <typename Begin>
    bool begin(bool has_due, Begin begin_here);
    void wind_down(unsigned fresh_seconds);
    void start_here(bool force);
    void start_here_by(uint64_t deadline_ns, int code, std::string reason);
    void reserve(std::vector<Ref> &handles);
    void close_sockets(int code, const std::string &reason);
    void arm_timer();
    void on_timer();
    void cut_connections();

    ServerCore &core_;
    Timer timer_;
    uint64_t deadline_ns_ = 0;  // 0: a stop without one
    std::optional<std::pair<int, std::string>> farewell_;  // due: the code and reason to close every socket with
    // Due: start(true) has closed these, and their close handlers have not run. The instance is held open for them.
    std::vector<Ref> closed_;
    bool has_started_ = false, is_forced_ = false;
    bool closes_sockets_ = false;  // a stop with a deadline has closed every socket, or is about to
};

}  // namespace uwserve
