#include "py/websocket/event_queue.h"

#include <utility>

namespace uwserve {

size_t EventQueue::find(bool is_message) const {
    size_t index = 0;
    while (index < count() && (at(index).origin == Origin::kMessage) != is_message) index++;
    return index;
}

void EventQueue::push(WsEvent event) {
    if (first_ && first_ >= events_.size() / 2) {
        events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(first_));
        first_ = 0;
    }
    const size_t more = event.bytes;
    const bool is_drain = event.origin == Origin::kDrain;
    events_.push_back(std::move(event));
    bytes_ += more;
    has_drain_ |= is_drain;
}

WsEvent EventQueue::take(size_t index) {
    WsEvent event = std::move(events_[first_ + index]);
    if (index == 0) {
        first_++;
    } else {
        events_.erase(events_.begin() + static_cast<std::ptrdiff_t>(first_ + index));
    }
    if (is_empty()) {
        events_.clear();
        first_ = 0;
    }
    bytes_ -= event.bytes;
    if (event.origin == Origin::kDrain) has_drain_ = false;
    return event;
}

void EventQueue::clear() {
    std::vector<WsEvent> old = std::exchange(events_, {});
    first_ = bytes_ = 0;
    has_drain_ = false;
}

int EventQueue::traverse(visitproc visit, void *arg) const {
    for (const WsEvent &event : events_) Py_VISIT(event.payload.get());
    return 0;
}

}  // namespace uwserve
