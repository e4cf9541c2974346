// A token bucket for the control frames, or the tiny fragments, of a WebSocket: it limits the frames a second.
//
// Only a lasting rate is refused. A laptop that wakes up, or a gateway that catches up, sends the frames of some time at
// once, which is legal (RFC 6455 5.5.3) and cheap. So the bucket holds the allowance of kBurstSeconds; a flood empties it
// at once.
//
// It is refilled by the loop's clock, in whole seconds. It stores the number of frames taken out, so that a connection
// starts with zeros and a changed limit applies at once. Trivially copyable, because it is part of PerSocket. Loop thread
// only.
#pragma once

#include <cstdint>

namespace uwserve {

constexpr uint32_t kBurstSeconds = 10;

class RateBucket {
  public:
    // Takes a frame; false: the bucket is empty. `limit` is not 0.
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
