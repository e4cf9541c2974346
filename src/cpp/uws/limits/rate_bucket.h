// How many control frames and tiny fragments a WebSocket has sent lately, for limits of frames a second.
//
// What is bounded is the cost that goes on: a laptop that wakes up, or a gateway that catches up, sends the frames of a
// while at once, which is legal (RFC 6455 5.5.3) and cheap. So the bucket holds the allowance of kBurstSeconds, and a flood
// empties it within a moment.
//
// It is refilled by the loop's clock, in whole seconds. What is stored is how much was taken out, so that a connection
// starts with zeros and a changed limit holds at once. Trivially copyable: it lives in PerSocket. Ordinary messages do not
// come here. Loop thread only.
#pragma once

#include <cstdint>

namespace uwserve {

constexpr uint32_t kBurstSeconds = 10;

class RateBucket {
  public:
    // Takes one; false when nothing was left. `limit` is not 0.
    bool take(uint32_t now, uint32_t limit) {
        if (now != second_) {
            uint64_t refill = static_cast<uint64_t>(now - second_) * limit;
            taken_ = refill < taken_ ? taken_ - static_cast<uint32_t>(refill) : 0;
            second_ = now;
        }
        if (taken_ >= static_cast<uint64_t>(limit) * kBurstSeconds || taken_ == UINT32_MAX) return false;
        taken_++;
        return true;
    }

  private:
    uint32_t second_ = 0, taken_ = 0;
};

// A fragment of fewer payload bytes than this is tiny.
constexpr uint64_t kTinyFragment = 16;

}  // namespace uwserve
