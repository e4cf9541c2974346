// A descriptor that a loop watches for reading: a member function of the owner is called, in a dispatch of the loop.
//
// The watch does not keep the loop running. The owner keeps the descriptor open until it has closed the watch, and
// closes the watch before the loop is freed; in the child of a fork it abandons the watch (loop/timer.h says why). Loop
// thread only.
#pragma once

#include "usockets/loop/watch.h"

#include <utility>

namespace uwserve {

class Watch {
  public:
    Watch() = default;
    ~Watch() { close(); }
    Watch(const Watch &) = delete;
    Watch &operator=(const Watch &) = delete;

    // False with errno; throws std::bad_alloc.
    template <auto on_readable, typename Owner>
    bool open(us_loop_t *loop, int fd, Owner *owner) {
        watch_ = us_watch(loop, fd, [](void *user) { (static_cast<Owner *>(user)->*on_readable)(); }, owner);
        return watch_ != nullptr;
    }
    void close() {
        if (watch_) us_unwatch(std::exchange(watch_, nullptr));
    }
    void abandon() { watch_ = nullptr; }

  private:
    us_watch_t *watch_ = nullptr;
};

}  // namespace uwserve
