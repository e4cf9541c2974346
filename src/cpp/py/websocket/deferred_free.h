// Receive buffers that slices of a memoryview have taken over and no longer use. The parser may still be in such a
// buffer, further up the stack of the callback that dropped the last slice, so the buffers are freed between callbacks.
#pragma once

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

namespace uwserve {

// Shared by the server and the owners of such buffers, which may outlive it. Any thread.
class DeferredFree {
  public:
    ~DeferredFree() { empty(); }
    void add(void *buffer) {
        std::lock_guard lock(mutex_);
        buffers_.push_back(buffer);
        has_buffers_.store(true, std::memory_order_relaxed);
    }
    // When no callback of the loop is on the stack.
    void empty() {
        if (!has_buffers_.load(std::memory_order_relaxed)) return;
        std::lock_guard lock(mutex_);
        for (void *buffer : std::exchange(buffers_, {})) free(buffer);
        has_buffers_.store(false, std::memory_order_relaxed);
    }

  private:
    std::mutex mutex_;
    std::vector<void *> buffers_;
    std::atomic<bool> has_buffers_{false};
};

}  // namespace uwserve
