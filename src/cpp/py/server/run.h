// Running a server: in run_to_end(), or inside an event loop of Python's.
//
// Either way one thread is the loop's thread until the run ends. An exception that ends a run is kept, and raised by
// the call that ran the loop. GIL; has_thread() and may_touch_instance(): any thread.
#pragma once

#include <atomic>

#include "py/interpreter/ref.h"
#include "uws/loop/watch.h"

namespace uwserve {

class ServerCore;

class Run {
  public:
    explicit Run(ServerCore &core) : core_(core) {}
    Run(const Run &) = delete;
    Run &operator=(const Run &) = delete;

    // --- all of these return false with an exception set ---
    // Runs the loop on this thread until the server is over. `signal_fd`: Python's wake-up descriptor, or -1.
    bool run_to_end(int signal_fd, PyObject *rearm_signals);
    // Inside an event loop, on this thread: pump() whenever the instance's descriptor is readable. The event loop's
    // reader is removed before detach(), which closes the descriptor if the server is over. When no thread can pump any
    // more, any thread may detach.
    enum class Pumped {
        kGoesOn,
        kOver,  // the server has stopped, and its last connection has ended: detach
        kWaitsForTasks,  // the same by force, but coroutines have not ended yet
    };
    bool attach();
    bool pump(Pumped *pumped);
    bool detach();
    // A coroutine has come, and no event loop can run it: the facade makes one, and the run goes on there.
    bool ask_for_event_loop();

    bool has_thread() const { return thread_.load(std::memory_order_relaxed) != 0; }
    // This is the loop's thread, or there is none.
    bool may_touch_instance() const {
        unsigned long thread = thread_.load(std::memory_order_relaxed);
        return thread == 0 || thread == PyThread_get_thread_ident();
    }
    unsigned long thread() const { return thread_.load(); }
    bool is_embedded() const { return is_embedded_; }

    void end_with(Ref error);  // the first error of a run is kept
    void on_release();  // a hook of the instance: the loop's thread does not need the GIL any more
    void forked();
    void forget_event_loop();  // it is garbage, as the server is

  private:
    // Of the child of a fork: no thread is the loop's, so every call takes the path of foreign threads and is refused.
    static constexpr unsigned long kNoThread = ~0ul;

    bool check_can_run(const char *call);
    bool end();
    bool raise_error();
    bool leave_fork();
    void on_signal();
    void rearm_signals();

    ServerCore &core_;
    std::atomic<unsigned long> thread_{0};  // the loop's thread; 0: none
    bool is_ending_ = false, is_embedded_ = false;
    Ref error_;
    int signal_fd_ = -1;
    Ref rearm_signals_;  // while run_to_end() runs on the main thread
};

}  // namespace uwserve
