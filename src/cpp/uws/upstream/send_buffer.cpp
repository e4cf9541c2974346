#include "uws/upstream/send_buffer.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace uwserve {

constexpr size_t kKeptCapacity = 16 * 1024;  // an empty queue keeps this much

SendBuffer::~SendBuffer() { free(memory_); }

void SendBuffer::swap(SendBuffer &other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(capacity_, other.capacity_);
    std::swap(shown_, other.shown_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
    std::swap(held_, other.held_);
}

void SendBuffer::move_to_front() {
    if (begin_) memmove(memory_, memory_ + begin_, length());
    end_ -= begin_;
    shown_ = begin_ = 0;
}

[[gnu::cold]] void SendBuffer::grow(size_t count) {
    if (begin_ >= length()) move_to_front();  // at least as many bytes have left, so this costs O(1) for each
    if (capacity_ - end_ >= count) return;
    if (count > SIZE_MAX / 4 || end_ > SIZE_MAX / 4) throw std::bad_alloc();
    // realloc() moves pages if it can: there is no second copy of a large queue.
    for (size_t more : {std::max(count, length() / 2), count}) {
        auto *memory = static_cast<char *>(realloc(memory_, end_ + more));
        if (!memory) continue;
        memory_ = memory;
        capacity_ = end_ + more;
        return;
    }
    throw std::bad_alloc();
}

// take() and give() are called while the queue is empty.
void SendBuffer::take(size_t length, SpareMemory &spare) {
    if (capacity_ >= length || spare.capacity < length) return;
    free(memory_);
    memory_ = spare.memory.release();
    capacity_ = std::exchange(spare.capacity, 0);
    shown_ = begin_ = end_ = 0;
}

void SendBuffer::give(SpareMemory &spare) {
    if (capacity_ <= spare.capacity || !SpareMemory::is_worth(capacity_)) return;
    spare.memory.reset(std::exchange(memory_, nullptr));
    spare.capacity = std::exchange(capacity_, 0);
    shown_ = begin_ = end_ = 0;
}

void SendBuffer::erase(size_t count) {
    begin_ += count;
    if (begin_ == end_) {
        clear();
        return;
    }
    if (begin_ - shown_ > (end_ - shown_) >> 5) shown_ = begin_;
    if (held_ || capacity_ <= 4 * kKeptCapacity || length() > capacity_ / 4) return;
    move_to_front();
    if (auto *memory = static_cast<char *>(realloc(memory_, capacity_ / 2))) {  // otherwise nothing changes
        memory_ = memory;
        capacity_ /= 2;
    }
}

void SendBuffer::clear() {
    shown_ = begin_ = end_ = 0;
    if (held_ || capacity_ <= kKeptCapacity) return;
    free(memory_);
    memory_ = nullptr;
    capacity_ = 0;
}

}  // namespace uwserve
