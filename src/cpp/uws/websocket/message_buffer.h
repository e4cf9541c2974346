// The memory of a message that arrives in several pieces. It grows to twice the bytes that have arrived, never to the
// size that a frame announces (defect P7). It is freed with the message, or handed over.
//
// Large memory costs more to allocate (page faults) than to fill, so the loop keeps some for the next large messages.
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

// Memory that is kept for the next large message.
struct SpareMemory {
    static constexpr size_t kLeast = 256 * 1024, kMost = 4 * 1024 * 1024;
    static bool is_worth(size_t capacity) { return capacity >= kLeast && capacity <= kMost; }
    Memory memory;
    size_t capacity = 0;
};

// As many pieces as large messages usually arrive at a time, of 8 MiB together at most.
class SpareMemoryPool {
  public:
    static constexpr size_t kPieces = 4, kAllMost = 2 * SpareMemory::kMost;

    // The smallest piece with room for `size`; capacity 0: there is none.
    SpareMemory take(size_t size) {
        SpareMemory *best = nullptr;
        for (SpareMemory &piece : pieces_) {
            if (piece.capacity >= size && (!best || piece.capacity < best->capacity)) best = &piece;
        }
        return best ? std::exchange(*best, SpareMemory()) : SpareMemory();
    }
    // Keeps the piece, if it is worth it, in place of the smallest.
    void give(SpareMemory piece) {
        if (!SpareMemory::is_worth(piece.capacity)) return;
        SpareMemory &least = *std::ranges::min_element(pieces_, {}, &SpareMemory::capacity);
        const size_t others = capacity() - least.capacity;
        if (least.capacity < piece.capacity && others + piece.capacity <= kAllMost) least = std::move(piece);
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
    // Adds `size` bytes, which the caller fills; nullptr: no memory. `most` bounds the growth: the bytes of this
    // message that may follow, if known.
    char *extend(size_t size, uint64_t most, SpareMemoryPool &spare) {
        const size_t needed = size_ + size;
        if (needed > capacity_ && !grow(needed, most, spare)) return nullptr;
        char *place = memory_.get() + size_;
        size_ = needed;
        return place;
    }
    std::string_view view() const { return {memory_.get(), size_}; }
    char *data() { return memory_.get(); }
    size_t capacity() const { return capacity_; }
    // The memory that the message is charged for. Spare memory may be larger than the message needs.
    size_t charge() const { return std::min(capacity_, 2 * size_); }

    // Hands the memory over; the buffer is empty afterwards.
    Memory take() {
        size_ = capacity_ = 0;
        return std::move(memory_);
    }
    void give_back(SpareMemoryPool &spare) {
        const size_t capacity = capacity_;
        spare.give({take(), capacity});
    }

  private:
    static constexpr size_t kSmallest = 128;
    // A message of this size takes spare memory, which may be much larger than the message needs: there are few pieces,
    // they exist anyway, and charge() does not count the rest.
    static constexpr size_t kTakesSpare = 64 * 1024;

    bool grow(size_t needed, uint64_t most, SpareMemoryPool &spare) {
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
