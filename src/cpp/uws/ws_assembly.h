// The memory of a message that does not arrive in one piece. It grows with what has arrived, to four times that at most,
// and never by what a frame announces; it is given back with the message (defect P7), or handed over.
//
// Large memory costs more to get (page faults) than to fill, so the loop keeps one piece for the next large message.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace uwserve {

struct FreeMemory {
    void operator()(char *memory) const { free(memory); }
};
using Memory = std::unique_ptr<char, FreeMemory>;

struct SpareMemory {
    static constexpr size_t kLeast = 256 * 1024, kMost = 4 * 1024 * 1024;
    Memory memory;
    size_t capacity = 0;
};

class Assembly {
  public:
    // Room for `size` more bytes, which count as there; nullptr when there is no memory. `most`: what can still come of
    // this message, if known, bounds the growth.
    char *extend(size_t size, uint64_t most, SpareMemory &spare) {
        const size_t needed = size_ + size;
        if (needed > capacity_ && !grow(needed, most, spare)) return nullptr;
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
    void give_back(SpareMemory &spare) {
        if (capacity_ > spare.capacity && capacity_ >= SpareMemory::kLeast && capacity_ <= SpareMemory::kMost) {
            std::swap(memory_, spare.memory);
            spare.capacity = capacity_;
        }
        take();
    }

  private:
    static constexpr size_t kSmallest = 128;

    bool grow(size_t needed, uint64_t most, SpareMemory &spare) {
        if (spare.capacity >= needed && spare.capacity / 4 <= needed) {
            if (size_) memcpy(spare.memory.get(), memory_.get(), size_);
            memory_ = std::move(spare.memory);
            capacity_ = std::exchange(spare.capacity, 0);
            return true;
        }
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
