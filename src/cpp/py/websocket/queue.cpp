#include "py/websocket/queue.h"

#include <atomic>
#include <new>
#include <optional>

#include "py/websocket/events.h"
#include "py/websocket/message_view.h"
#include "uws/websocket/close.h"
#include "uws/websocket/cork.h"
#include "uws/websocket/lifecycle.h"

namespace uwserve {

namespace {

// The memory of an event beside its payload: itself and the head of an object.
constexpr size_t kEventBytes = sizeof(WsEvent) + 56;

// The most that a queue may have while the server is short of memory.
constexpr size_t kAlwaysKept = 16 * 1024;

Ref make_message(WsObject *handle, std::string_view message, Content content) {
    if (content != Content::kBinary) return Ref::steal(decode_text(message, content == Content::kAscii));
    if (handle->binary_type != BinaryType::kByteArray) return Ref::steal(make_bytes(message));
    return Ref::steal(PyByteArray_FromStringAndSize(message.data(), static_cast<Py_ssize_t>(message.size())));
}

// Puts the event behind the others. False: there is no memory for it, so the connection was failed.
bool push(ServerCore &core, WsObject *handle, WsEvent event) {
    WsQueue &queue = *handle->queue;
    bool is_short = !core.limits.has_memory(event.bytes);
    if (is_short && queue.events.bytes() + event.bytes > kAlwaysKept) {
        core.limits.refused(Refusal::kWsBufferedBytes);
        fail_connection(raw(handle->ws), kShortOfMemory);
        return false;
    }
    try {
        queue.push(std::move(event));
    } catch (const std::bad_alloc &) {
        fail_connection(raw(handle->ws), kNoMemory);
        return false;
    }
    if (is_short || queue.is_full()) pause_reading(handle);
    return true;
}

// --- delivery ---

// The next event that may be delivered now; with an iterator, the next that is no message.
std::optional<WsEvent> next_event(WsQueue &queue) {
    size_t index = 0;
    if (queue.iterator) {
        index = queue.events.find(false);
    } else if (queue.hold.is_set() || queue.is_crowded) {
        return std::nullopt;
    }
    if (index == queue.events.count()) return std::nullopt;
    return queue.take(index);
}

void deliver(ServerCore &core, WsObject *handle, WsEvent event) {
    if (event.as_view) {
        BinaryMessage view{Ref::steal(guarded<PyMemoryView_FromObject>(event.payload.get())), std::move(event.payload)};
        if (!view.object) {
            core.handler_failed(handle, Origin::kMessage);
            return;
        }
        call_handler(core, core.options.message, handle, view.object.get(), Origin::kMessage);
        release_view(core, view);  // like any other view, although the payload would outlive the handler
        return;
    }
    const WebSocketOptions &options = core.options;
    const Ref &handler = event.origin == Origin::kMessage ? options.message
                         : event.origin == Origin::kDrain ? options.drain
                         : event.origin == Origin::kPing  ? options.ping
                                                          : options.pong;
    call_handler(core, handler, handle, event.payload.get(), event.origin);
}

// Queues or delivers the event. Making the payload may have run a finaliser: the socket may be closed, or nothing may
// have to wait any more. True: it was queued.
bool queue_or_deliver(ServerCore &core, WsObject *handle, bool must_wait, WsEvent event) {
    if (!handle->ws) return false;
    if (!must_wait) {
        deliver(core, handle, std::move(event));
        return false;
    }
    event.bytes = kEventBytes + message_bytes(event.payload.get());
    return push(core, handle, std::move(event));
}

}  // namespace

void WsQueue::push(WsEvent event) {
    events.push(std::move(event));
    charge();
}

WsEvent WsQueue::take(size_t index) {
    WsEvent event = events.take(index);
    charge();
    return event;
}

void WsQueue::clear() {
    events.clear();
    unparsed.clear();
    charge();
}

WsQueue *queue_of(WsObject *handle) {
    if (!handle->queue) {
        auto *queue = new (std::nothrow) WsQueue(handle->core->limits);
        if (!queue) {
            PyErr_NoMemory();
            return nullptr;
        }
        // The loop's thread reads the pointer, and not the queue, without the GIL.
        std::atomic_ref(handle->queue).store(queue, std::memory_order_release);
    }
    return handle->queue;
}

int traverse_queue(WsQueue &queue, visitproc visit, void *arg) {
    Py_VISIT(queue.hold.task.get());
    for (Waiter &waiter : queue.waiters) Py_VISIT(waiter.callback.get());
    return queue.events.traverse(visit, arg);
}

// --- coming in ---

bool queue_message(ServerCore &core, WsObject *handle, std::string_view message, Content content) {
    WsQueue &queue = *handle->queue;
    if (!queue.takes_messages()) return false;
    Ref keep = new_ref(handle);
    WsEvent event{Origin::kMessage, make_message(handle, message, content)};
    if (!event.payload) {
        core.handler_failed(handle, Origin::kMessage);
        return true;
    }
    event.as_view = content == Content::kBinary && handle->binary_type == BinaryType::kMemoryView && !queue.iterator;
    bool is_waiting = queue_or_deliver(core, handle, queue.takes_messages(), std::move(event));
    if (is_waiting && queue.iterator) wake_iterator(core, queue.iterator);
    return true;
}

bool queue_control(ServerCore &core, WsObject *handle, Origin origin, std::string_view data) {
    WsQueue &queue = *handle->queue;
    if (!queue.takes_others()) return false;
    Ref keep = new_ref(handle);
    WsEvent event{origin, Ref::steal(make_bytes(data))};
    if (!event.payload) {
        core.handler_failed(handle, origin);
        return true;
    }
    queue_or_deliver(core, handle, queue.takes_others(), std::move(event));
    return true;
}

bool queue_drain(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (!queue.takes_others()) return false;
    if (!queue.events.has_drain()) push(*handle->core, handle, {Origin::kDrain, Ref(), kEventBytes});
    return true;
}

// --- going out ---

void deliver_events(ServerCore &core, WsObject *handle) {
    WsQueue *queue = handle->queue;
    if (!queue || queue->is_delivering || core.is_forked || !core.instance) return;
    Ref keep = new_ref(handle);
    ServerCore::DispatchScope entry(core);
    auto deliver_all = [&] {
        while (std::optional<WsEvent> event = next_event(*queue)) deliver(core, handle, std::move(*event));
    };
    queue->is_delivering = true;
    if (handle->ws && !queue->events.is_empty()) {
        corked(handle->ws, deliver_all);
    } else {
        deliver_all();
    }
    queue->is_delivering = false;
    if (queue->close.is_due && !queue->hold.is_set() && !handle->is_busy) run_deferred_close(core, handle);
    continue_reading(handle);
}

void deliver_soon(WsObject *handle) {
    if (post_for(handle, "ServerWebSocket", deliver_events)) return;
    PyErr_Clear();  // the server has ended, so no handler runs any more
    handle->queue->clear();
}

Ref take_message(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    size_t index = queue.events.find(true);
    if (index == queue.events.count()) return Ref();
    WsEvent event = queue.take(index);
    if (queue.pause.is_on) continue_reading(handle);
    return std::move(event.payload);
}

}  // namespace uwserve
