// Exceptions out of user code, counted by where they came from. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace uwserve {

class HandlerErrors {
  public:
    // As users see them; the last one stands for all that are not named. "error" is either hook of that name, "fetch" any
    // handler of a request.
    static constexpr std::string_view kPlaces[] = {"open",  "message", "close",  "drain",     "ping", "pong",
                                                   "error", "fetch",   "stream", "call_soon", "other"};
    static constexpr size_t kCount = sizeof(kPlaces) / sizeof(*kPlaces);

    void count(std::string_view where) { counts_[index_of(where)].fetch_add(1, std::memory_order_relaxed); }
    // The literal with that text; "other" for what is not named.
    static const char *place_of(std::string_view where) { return kPlaces[index_of(where)].data(); }
    uint64_t of(size_t place) const { return counts_[place].load(std::memory_order_relaxed); }

  private:
    static size_t index_of(std::string_view where) {
        size_t place = 0;
        while (place < kCount - 1 && kPlaces[place] != where) place++;
        return place;
    }
    std::array<std::atomic<uint64_t>, kCount> counts_{};
};

}  // namespace uwserve
