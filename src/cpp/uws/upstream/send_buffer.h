// The bytes of a connection that the kernel has not taken yet: a queue in one piece of memory.
//
// uWebSockets' own (AsyncSocketData.h) moves what is left at every 32nd that has gone, clears memory that is about to
// be written, keeps the largest capacity for good or, in newer versions, copies what is left into new memory (defect
// S9): without memory for the copy, the process ends while it sends. Taking from this one never needs memory, and gives
// back what is no longer needed. Owned by its connection. Loop thread only.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include "uws/websocket/message_buffer.h"

namespace uwserve {

class SendBuffer {
  public:
    SendBuffer() = default;
    SendBuffer(SendBuffer &&other) noexcept { swap(other); }
    ~SendBuffer();
    SendBuffer(const SendBuffer &) = delete;
    SendBuffer &operator=(const SendBuffer &) = delete;

    size_t length() const { return end_ - begin_; }
    const char *data() const { return memory_ + begin_; }
    size_t capacity() const { return capacity_; }
    // The length, falling only when a 32nd of it has gone: uWebSockets takes each fall for progress of the peer, which
    // calls drain and earns time.
    size_t shown_length() const { return end_ - shown_; }

    // These four throw std::bad_alloc, and have changed nothing then.
    void append(const char *bytes, size_t count) {
        if (!count) return;
        make_room(count);
        memcpy(memory_ + end_, bytes, count);
        end_ += count;
    }
    // The length becomes `length`; bytes that are new are not initialised.
    void resize(size_t length) {
        if (length > this->length()) {
            make_room(length - this->length());
        } else {
            shown_ = begin_;
        }
        end_ = begin_ + length;
    }
    // Room for `length` bytes in all.
    void reserve(size_t length) {
        if (length > this->length()) make_room(length - this->length());
    }
    // The same, and that room stays, whatever leaves meanwhile, until trim(). It is made of `spare`, where that will
    // do.
    void hold(size_t length, SpareMemory *spare = nullptr) {
        if (spare && !this->length()) take(length, *spare);
        reserve(length);
        held_ = true;
    }
    // Room that was not needed goes, into `spare` if it is worth keeping.
    void trim(SpareMemory *spare = nullptr) {
        held_ = false;
        if (length()) return;
        if (spare) give(*spare);
        clear();
    }

    // Takes `count` bytes, of those that are there, from the front.
    void erase(size_t count);
    void clear();

  private:
    void swap(SendBuffer &other) noexcept;
    void make_room(size_t count) {
        if (capacity_ - end_ < count) grow(count);
    }
    void grow(size_t count);
    void take(size_t length, SpareMemory &spare);
    void give(SpareMemory &spare);
    void move_to_front();

    char *memory_ = nullptr;
    size_t capacity_ = 0;
    size_t shown_ = 0, begin_ = 0, end_ = 0;  // shown_ <= begin_ <= end_ <= capacity_
    bool held_ = false;
};

}  // namespace uwserve
