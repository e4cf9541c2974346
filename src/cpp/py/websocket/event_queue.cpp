// The queue itself: its events and their memory.
#include <atomic>
#include <new>

#include "py/websocket/queue.h"

namespace uwserve {

void WsQueue::push(WsEvent event) {
    if (first && first >= events.size() / 2) {
        events.erase(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(first));
        first = 0;
    }
    size_t more = event.bytes;
    events.push_back(std::move(event));
    bytes += more;
    charge();
}

WsEvent WsQueue::take(size_t index) {
    WsEvent event = std::move(events[first + index]);
    if (index == 0) {
        first++;
    } else {
        events.erase(events.begin() + static_cast<std::ptrdiff_t>(first + index));
    }
    if (empty()) {
        events.clear();
        first = 0;
    }
    bytes -= event.bytes;
    if (event.kind == EventKind::kDrain) has_drain = false;
    charge();
    return event;
}

void WsQueue::clear() {
    std::vector<WsEvent> old = std::exchange(events, {});
    first = bytes = parsed = 0;
    has_drain = false;
    std::string().swap(unparsed);
    charge();
}

WsQueue *queue_of(WsObject *handle) {
    if (!handle->queue) {
        auto *queue = new (std::nothrow) WsQueue(handle->core->limits);
        if (!queue) {
            PyErr_NoMemory();
            return nullptr;
        }
        // The loop's thread looks at the pointer, not behind it, without the GIL.
        std::atomic_ref(handle->queue).store(queue, std::memory_order_release);
    }
    return handle->queue;
}

int traverse_queue(WsQueue &queue, visitproc visit, void *arg) {
    Py_VISIT(queue.task.get());
    for (WsEvent &event : queue.events) Py_VISIT(event.payload.get());
    for (WsQueue::Waiter &waiter : queue.waiters) Py_VISIT(waiter.callback.get());
    return 0;
}

}  // namespace uwserve
