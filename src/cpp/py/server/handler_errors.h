// How many exceptions user code has raised, by their origin. Any thread.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "py/server/origin.h"

namespace uwserve {

class HandlerErrors {
  public:
    void count(Origin origin) {
        counts_[static_cast<size_t>(std::min(origin, Origin::kOther))].fetch_add(1, std::memory_order_relaxed);
    }
    uint64_t of(size_t origin) const { return counts_[origin].load(std::memory_order_relaxed); }

  private:
    std::array<std::atomic<uint64_t>, kCountedOrigins> counts_{};
};

}  // namespace uwserve
