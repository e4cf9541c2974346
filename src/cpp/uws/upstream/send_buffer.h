// The bytes of a connection that the kernel has not taken yet: a queue in one piece of memory. Owned by its connection.
// Loop thread only.
//
// The queue of uWebSockets (AsyncSocketData.h) moves the rest whenever a 32nd has left, clears memory that is about to be
// written, and keeps the largest capacity for good, or, in newer versions, copies the rest into new memory (defect S9):
// if there is none, the process ends. Taking bytes from this queue never needs memory, and frees what is no longer
// needed.
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
    // The length, but it only falls when a 32nd has left: for uWebSockets, each fall is progress of the peer, which calls
    // drain and extends a timeout.
    size_t shown_length() const { return end_ - shown_; }

    // These four throw std::bad_alloc, and then nothing has changed.
    void append(const char *bytes, size_t count) {
        if (!count) return;
        make_room(count);
        memcpy(memory_ + end_, bytes, count);
        end_ += count;
    }
    // New bytes are not initialised.
    void resize(size_t length) {
        if (length > this->length()) {
            make_room(length - this->length());
        } else {
            shown_ = begin_;
        }
        end_ = begin_ + length;
    }
    // Makes room for `length` bytes in all.
    void reserve(size_t length) {
        if (length > this->length()) make_room(length - this->length());
    }
    // The same, and the room stays until trim(), even if bytes leave meanwhile. It is that of `spare` if that is enough.
    void hold(size_t length, SpareMemory *spare = nullptr) {
        if (spare && !this->length()) take(length, *spare);
        reserve(length);
        held_ = true;
    }
    // Frees room that was not needed, or moves it into `spare` if it is worth keeping.
    void trim(SpareMemory *spare = nullptr) {
        held_ = false;
        if (length()) return;
        if (spare) give(*spare);
        clear();
    }

    // Removes `count` bytes, at most length(), from the front.
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
