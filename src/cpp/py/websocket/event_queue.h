// The waiting events of one socket, in the order of arrival, bounded by count and by bytes. GIL.
#pragma once

#include <cstddef>
#include <vector>

#include "py/interpreter/ref.h"
#include "py/server/origin.h"

namespace uwserve {

struct WsEvent {
    Origin origin;  // kMessage, kDrain, kPing or kPong
    Ref payload;  // none for kDrain
    size_t bytes = 0;  // of memory
    bool as_view = false;  // the handler gets a memoryview of it
};

class EventQueue {
  public:
    bool is_empty() const { return first_ == events_.size(); }
    size_t count() const { return events_.size() - first_; }
    size_t bytes() const { return bytes_; }
    bool is_full() const { return count() >= kMaxEvents || bytes_ >= kMaxBytes; }
    bool is_low() const { return count() <= kMaxEvents / 2 && bytes_ <= kMaxBytes / 2; }
    const WsEvent &at(size_t index) const { return events_[first_ + index]; }
    // The index of the first event that is, or is not, a message; count() if there is none.
    size_t find(bool is_message) const;
    bool has_message() const { return find(true) != count(); }
    bool has_others() const { return find(false) != count(); }
    bool has_drain() const { return has_drain_; }

    void push(WsEvent event);  // throws std::bad_alloc
    WsEvent take(size_t index);
    void clear();
    int traverse(visitproc visit, void *arg) const;

  private:
    static constexpr size_t kMaxEvents = 64;
    static constexpr size_t kMaxBytes = 1u << 20;

    std::vector<WsEvent> events_;  // from first_ on
    size_t first_ = 0;
    size_t bytes_ = 0;
    bool has_drain_ = false;  // one drain event is enough
};

}  // namespace uwserve
