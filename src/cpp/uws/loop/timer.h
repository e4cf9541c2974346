// A timer of a loop that calls a member function of its owner, in a dispatch of the loop.
//
// The owner closes the timer before the loop is freed. In the child of a fork it abandons the timer instead: another
// thread of the parent may have been changing the loop's lists. Loop thread only.
#pragma once

#include <libusockets.h>

#include <utility>

namespace uwserve {

class Timer {
  public:
    Timer() = default;
    ~Timer() { close(); }
    Timer(const Timer &) = delete;
    Timer &operator=(const Timer &) = delete;

    // The only call that needs memory; throws std::bad_alloc.
    template <auto on_due, typename Owner>
    void open(us_loop_t *loop, Owner *owner) {
        timer_ = us_create_timer(loop, 0, sizeof(owner));
        *static_cast<Owner **>(us_timer_ext(timer_)) = owner;
        call_ = [](us_timer_t *timer) { ((*static_cast<Owner **>(us_timer_ext(timer)))->*on_due)(); };
    }
    bool is_open() const { return timer_ != nullptr; }
    // One call, instead of any that is due already.
    void arm(int milliseconds) { us_timer_set(timer_, call_, milliseconds, 0); }
    void close() {
        if (timer_) us_timer_close(std::exchange(timer_, nullptr));
    }
    void abandon() { timer_ = nullptr; }

  private:
    us_timer_t *timer_ = nullptr;
    void (*call_)(us_timer_t *) = nullptr;
};

}  // namespace uwserve
