// The memory of a message that does not arrive in one piece. It grows with what has arrived, to twice that, and
// never by what a frame announces; it is given back with the message (defect P7), or handed over.
//
// Large memory costs more to get (page faults) than to fill, so the loop keeps some pieces for the next large messages.
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

// One piece that is worth keeping.
struct SpareMemory {
    static constexpr size_t kLeast = 256 * 1024, kMost = 4 * 1024 * 1024;
    static bool is_worth(size_t capacity) { return capacity >= kLeast && capacity <= kMost; }
    Memory memory;
    size_t capacity = 0;
};

// As many pieces as messages commonly arrive at a time, of 8 MiB together at most.
class SparePieces {
  public:
    static constexpr size_t kPieces = 4, kAllMost = 2 * SpareMemory::kMost;

    // The smallest with room for `size`, or nothing (capacity 0).
    SpareMemory take(size_t size) {
        SpareMemory *best = nullptr;
        for (SpareMemory &piece : pieces_) {
            if (piece.capacity >= size && (!best || piece.capacity < best->capacity)) best = &piece;
        }
        return best ? std::exchange(*best, SpareMemory()) : SpareMemory();
    }
    // Kept, if it is worth it, in place of the smallest.
    void give(SpareMemory piece) {
        if (!SpareMemory::is_worth(piece.capacity)) return;
        size_t all = piece.capacity;
        for (const SpareMemory &other : pieces_) all += other.capacity;
        SpareMemory &least =
            *std::min_element(pieces_, pieces_ + kPieces,
                              [](const SpareMemory &a, const SpareMemory &b) { return a.capacity < b.capacity; });
        if (least.capacity < piece.capacity && all - least.capacity <= kAllMost) least = std::move(piece);
    }
    size_t capacity() const {
        size_t all = 0;
        for (const SpareMemory &piece : pieces_) all += piece.capacity;
        return all;
    }

  private:
    SpareMemory pieces_[kPieces];
};

class MessageBuffer {
  public:
    // Room for `size` more bytes, which count as there; nullptr when there is no memory. `most`: what can still come of
    // this message, if known, bounds the growth.
    char *extend(size_t size, uint64_t most, SparePieces &spare) {
        const size_t needed = size_ + size;
        if (needed > capacity_ && !grow(needed, most, spare)) return nullptr;
        char *place = memory_.get() + size_;
        size_ = needed;
        return place;
    }
    std::string_view view() const { return {memory_.get(), size_}; }
    char *data() { return memory_.get(); }
    size_t capacity() const { return capacity_; }
    // The capacity that the message needs by itself: it is not charged for a spare piece that is larger.
    size_t charge() const { return std::min(capacity_, 2 * size_); }

    // Hands the memory over; the assembly is empty afterwards.
    Memory take() {
        size_ = capacity_ = 0;
        return std::move(memory_);
    }
    void give_back(SparePieces &spare) {
        const size_t capacity = capacity_;
        spare.give({take(), capacity});
    }

  private:
    static constexpr size_t kSmallest = 128;
    // What must have arrived before memory that is there is taken. A piece may be much larger than growing would give:
    // there are few, all that they hold is in memory anyway, and charge() does not count it.
    static constexpr size_t kTakesSpare = 64 * 1024;

    bool grow(size_t needed, uint64_t most, SparePieces &spare) {
        size_t capacity = std::max(2 * needed, kSmallest);
        if (most < capacity - needed) capacity = needed + static_cast<size_t>(most);
        if (needed >= kTakesSpare) {
            SpareMemory piece = spare.take(most < SpareMemory::kMost ? needed + static_cast<size_t>(most) : capacity);
            if (!piece.capacity) piece = spare.take(capacity);
            if (piece.capacity) {
                if (size_) memcpy(piece.memory.get(), memory_.get(), size_);
                std::swap(piece.memory, memory_);
                std::swap(piece.capacity, capacity_);
                spare.give(std::move(piece));
                return true;
            }
        }
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
