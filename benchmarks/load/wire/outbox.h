// What a connection still has to send: bytes of its own, and between them views of memory that many messages share, so
// that a large payload is never copied for a message. Sent with as few calls as there are iovecs.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace load {

class Outbox {
  public:
    // Whatever is appended to it is sent behind all that was queued before. Never shortened by others.
    std::string &own() { return own_; }
    // Sent in place: the memory must stay as it is until then.
    void share(std::string_view data);

    bool empty() const { return sent_ == own_.size() && first_ == shared_.size(); }
    size_t size() const { return own_.size() - sent_ + shared_bytes_; }
    // The next bytes to send, at most `max` pieces of them; gives the number of pieces.
    int peek(iovec *pieces, int max) const;
    // Forgets the first `size` bytes, which were sent.
    void consume(size_t size);
    void clear();

  private:
    static constexpr size_t kCompact = 256 * 1024;
    struct Shared {
        size_t own_before;  // bytes of own_ that go first
        std::string_view data;
    };
    std::string own_;
    size_t sent_ = 0;  // of own_
    std::vector<Shared> shared_;
    size_t first_ = 0;  // of shared_ that is not sent yet
    size_t shared_bytes_ = 0;
};

}  // namespace load
