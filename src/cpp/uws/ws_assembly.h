// The memory of a message that does not arrive in one piece. It grows with what has arrived, to twice that at most, and
// never by what a frame announces; it is given back with the message (defect P7). It may be handed over instead.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

namespace uwserve {

struct FreeMemory {
    void operator()(char *memory) const { free(memory); }
};
using Memory = std::unique_ptr<char, FreeMemory>;

class Assembly {
  public:
    // Room for `size` more bytes, which count as there; nullptr when there is no memory. `most`: what can still come of
    // this message, if known, bounds the growth.
    char *extend(size_t size, uint64_t most) {
        const size_t needed = size_ + size;
        if (needed > capacity_ && !grow(needed, most)) return nullptr;
        char *place = memory_.get() + size_;
        size_ = needed;
        return place;
    }
    std::string_view view() const { return {memory_.get(), size_}; }
    char *data() { return memory_.get(); }
    size_t capacity() const { return capacity_; }
    // Hands the memory over; the assembly is empty afterwards.
    Memory take() {
        size_ = capacity_ = 0;
        return std::move(memory_);
    }

  private:
    static constexpr size_t kSmallest = 128;

    bool grow(size_t needed, uint64_t most) {
        size_t capacity = std::max(2 * needed, kSmallest);
        if (most < capacity - needed) capacity = needed + static_cast<size_t>(most);
        char *grown = static_cast<char *>(realloc(memory_.get(), capacity));
        if (!grown) return false;
        static_cast<void>(memory_.release());
        memory_.reset(grown);
        capacity_ = capacity;
        return true;
    }

    Memory memory_;
    size_t size_ = 0, capacity_ = 0;
};

}  // namespace uwserve
