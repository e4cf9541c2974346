// How long one connection may keep the others of its loop waiting.
#pragma once

#include <chrono>
#include <cstddef>

namespace uwserve {

// A connection has at most this many requests in a row, and begins no further one after kTurnTime.
constexpr unsigned kRequestsPerTurn = 32;
constexpr std::chrono::milliseconds kTurnTime{1};
// The same for bytes that were received earlier. They are parsed in pieces, because parsing does not stop within one.
constexpr size_t kTurnBytes = 16 * 1024, kTurnPiece = 4096;

class Turn {
  public:
    explicit Turn(std::chrono::milliseconds limit = kTurnTime) : limit_(limit) {}
    bool is_over() const { return std::chrono::steady_clock::now() - begun_ > limit_; }

  private:
    std::chrono::milliseconds limit_;
    std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace uwserve
