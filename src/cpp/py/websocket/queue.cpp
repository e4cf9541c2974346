#include "py/websocket/queue.h"

#include <atomic>
#include <memory>
#include <new>
#include <optional>

#include "uws/websocket/close.h"
#include "uws/websocket/cork.h"

namespace uwserve {

namespace {

// What an event costs beside its payload: itself and the head of an object.
constexpr size_t kEventBytes = sizeof(WsEvent) + 56;

// While the server is short of memory, a queue may have so much and no more.
constexpr size_t kAlwaysKept = 16 * 1024;

PyObject *object(WsObject *handle) { return reinterpret_cast<PyObject *>(handle); }

size_t size_of(PyObject *payload) {
    if (PyUnicode_Check(payload)) {
        return static_cast<size_t>(PyUnicode_GET_LENGTH(payload)) * static_cast<size_t>(PyUnicode_KIND(payload));
    }
    return static_cast<size_t>(PyObject_Size(payload));  // bytes or bytearray
}

Ref make_message(WsObject *handle, std::string_view message, Content content) {
    if (content != Content::kBinary) return Ref::steal(decode_text(message, content == Content::kAscii));
    auto size = static_cast<Py_ssize_t>(message.size());
    return Ref::steal(handle->binary_type == BinaryType::kByteArray
                          ? PyByteArray_FromStringAndSize(message.data(), size)
                          : PyBytes_FromStringAndSize(message.data(), size));
}

// Puts it behind the others. False: there is no memory for it, and the connection has failed for that.
bool push(ServerCore &core, WsObject *handle, WsEvent event) {
    WsQueue &queue = *handle->queue;
    us_socket_t *s = raw(handle->ws);
    bool is_short = !core.limits.has_memory(event.bytes);
    if (is_short && queue.events.bytes() + event.bytes > kAlwaysKept) {
        core.limits.refused(Refusal::kWsBufferedBytes);
        fail_connection(s, kShortOfMemory);
        return false;
    }
    try {
        queue.push(std::move(event));
    } catch (const std::bad_alloc &) {
        fail_connection(s, kNoMemory);
        return false;
    }
    if (is_short || queue.is_full()) pause_reading(queue, s);
    return true;
}

// --- delivery ---

// The next event, if it may go now: with an iterator, the next that is no message.
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
        release_view(core, view);  // as any other, although this one could live longer
        return;
    }
    switch (event.kind) {
    case EventKind::kMessage:
        return call_handler(core, core.options.message, handle, event.payload.get(), Origin::kMessage);
    case EventKind::kDrain:
        return call_handler(core, core.options.drain, handle, nullptr, Origin::kDrain);
    case EventKind::kPing:
        return call_handler(core, core.options.ping, handle, event.payload.get(), Origin::kPing);
    case EventKind::kPong:
        return call_handler(core, core.options.pong, handle, event.payload.get(), Origin::kPong);
    }
}

// Making the payload may have run a finaliser: the socket may be closed, or nothing wait any more.
bool line_up(ServerCore &core, WsObject *handle, bool must_wait, WsEvent event) {
    if (!handle->ws) return false;
    if (!must_wait) {
        deliver(core, handle, std::move(event));
        return false;
    }
    event.bytes = kEventBytes + size_of(event.payload.get());
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
        // The loop's thread looks at the pointer, not behind it, without the GIL.
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
    Ref keep = Ref::borrow(object(handle));
    WsEvent event{EventKind::kMessage, make_message(handle, message, content)};
    if (!event.payload) {
        core.handler_failed(handle, Origin::kMessage);
        return true;
    }
    event.as_view = content == Content::kBinary && handle->binary_type == BinaryType::kMemoryView && !queue.iterator;
    bool is_waiting = line_up(core, handle, queue.takes_messages(), std::move(event));
    if (is_waiting && queue.iterator) wake_iterator(core, queue.iterator);
    return true;
}

bool queue_control(ServerCore &core, WsObject *handle, EventKind kind, std::string_view data) {
    WsQueue &queue = *handle->queue;
    if (!queue.takes_others()) return false;
    Ref keep = Ref::borrow(object(handle));
    WsEvent event{kind, Ref::steal(PyBytes_FromStringAndSize(data.data(), static_cast<Py_ssize_t>(data.size())))};
    if (!event.payload) {
        core.handler_failed(handle, kind == EventKind::kPing ? Origin::kPing : Origin::kPong);
        return true;
    }
    line_up(core, handle, queue.takes_others(), std::move(event));
    return true;
}

bool queue_drain(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (!queue.takes_others()) return false;
    if (!queue.events.has_drain()) push(*handle->core, handle, {EventKind::kDrain, Ref(), kEventBytes});
    return true;
}

// --- going out ---

void deliver_events(ServerCore &core, WsObject *handle) {
    WsQueue *queue = handle->queue;
    if (!queue || queue->is_delivering || core.is_forked || !core.instance) return;
    Ref keep = Ref::borrow(object(handle));
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
    auto keep = std::make_shared<Ref>(Ref::borrow(object(handle)));
    bool posted =
        handle->core->post([keep](ServerCore &core) { deliver_events(core, as_ws(keep->get())); }, "ServerWebSocket");
    if (!posted) {  // the server has ended, and with it every handler
        PyErr_Clear();
        handle->queue->clear();
    }
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
