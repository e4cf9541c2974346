// What goes into a socket's queue, comes out of it, and what becomes of it at the end.
#include "py/websocket/queue.h"

#include <algorithm>
#include <new>

#include "uws/websocket/lifecycle.h"
#include "uws/websocket/send.h"

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

void pause_reading(WsQueue &queue, us_socket_t *s) {
    queue.is_paused = true;
    us_socket_pause(s, US_PAUSE_QUEUE);
}

// Puts it behind the others. False: there is no memory for it, and the connection has failed for that.
bool push(ServerCore &core, WsObject *handle, WsEvent event) {
    WsQueue &queue = *handle->queue;
    us_socket_t *s = raw(handle->ws);
    bool is_short = !core.limits.has_memory(event.bytes);
    if (is_short && queue.bytes + event.bytes > kAlwaysKept) {
        core.limits.refused(Refusal::kWsBufferedBytes);
        Lifecycle::fail(s, kShortOfMemory);
        return false;
    }
    try {
        queue.push(std::move(event));
    } catch (const std::bad_alloc &) {
        Lifecycle::fail(s, kNoMemory);
        return false;
    }
    if (is_short || queue.is_full()) pause_reading(queue, s);
    return true;
}

// --- delivery ---

// What is next, if it may go now: with an iterator, what is not a message.
std::optional<WsEvent> next_event(WsQueue &queue) {
    size_t index = 0;
    if (queue.iterator) {
        while (index < queue.count() && queue.at(index).kind == EventKind::kMessage) index++;
    } else if (queue.hold != Hold::kNothing || queue.is_crowded) {
        return std::nullopt;
    }
    if (index == queue.count()) return std::nullopt;
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

// The close handler that has waited runs now.
void run_deferred_close(ServerCore &core, WsObject *handle) {
    WsQueue &queue = *handle->queue;
    queue.close_is_due = false;
    auto found = std::find(core.unfinished.begin(), core.unfinished.end(), handle);
    Ref keep = Ref::steal(object(handle));
    *found = core.unfinished.back();
    core.unfinished.pop_back();
    core.instance->release_hold();
    call_close_handler(core, handle, handle->close_code, queue.close_reason);
}

// --- the task whose end is waited for ---

PyObject *task_done(PyObject *self, PyObject *task) {
    WsObject *handle = as_ws(self);
    WsQueue *queue = handle->queue;
    if (!queue || queue->task.get() != task) Py_RETURN_NONE;
    Ref ended = std::move(queue->task);
    queue->hold = Hold::kNothing;
    if (handle->core->is_forked) Py_RETURN_NONE;
    if (handle->core->on_loop_thread() && handle->core->instance && !handle->core->instance->is_in_callback()) {
        pump_events(*handle->core, handle);
    } else {
        pump_soon(handle);  // also inside a handler, which an event loop that is run in one can do
    }
    Py_RETURN_NONE;
}

PyMethodDef kTaskDone = {"task_done", raw_call<task_done>, METH_O, nullptr};

bool is_done(PyObject *task) {
    Ref answer = Ref::steal(guarded<PyObject_CallMethod>(task, "done", nullptr));
    if (!answer) PyErr_Clear();
    return answer && answer.get() == Py_True;
}

// Everything of that kind waits until the task has ended. False with an exception set.
bool hold_events(WsObject *handle, Ref task, Hold hold) {
    WsQueue *queue = queue_of(handle);
    if (!queue) return false;
    if (queue->hold != Hold::kNothing && !is_done(queue->task.get())) return true;  // of several, the first
    Ref callback = Ref::steal(PyCFunction_New(&kTaskDone, object(handle)));
    if (!callback) return false;
    Ref added = Ref::steal(guarded<PyObject_CallMethod>(task.get(), "add_done_callback", "O", callback.get()));
    if (!added) return false;
    Ref before = std::exchange(queue->task, std::move(task));
    queue->hold = hold;
    return true;
}

// --- reading on ---

// Parses what was read before the pause, as far as the queue takes it, then lets the socket be read. Not inside a
// dispatch of this socket.
void read_on(ServerCore &core, WsObject *handle) {
    WsQueue &queue = *handle->queue;
    queue.is_reading_soon = false;
    if (!handle->ws || !queue.is_paused || queue.is_full()) return;
    us_socket_t *s = raw(handle->ws);
    if (s->pause_reasons & (US_PAUSE_USER | US_PAUSE_BACKLOG)) return;  // whoever takes that back comes here
    queue.is_paused = false;
    us_socket_resume(s, US_PAUSE_QUEUE);
    core.instance->lifecycle().heard(s);
    // What HttpConnections holds back (US_PAUSE_HELD) has come later, and lines up behind this.
    auto may_go_on = [&] { return !s->closed && handle->ws && !(s->pause_reasons & ~US_PAUSE_HELD); };
    const Turn turn;
    const size_t end = std::min(queue.parsed + kTurnBytes, queue.unparsed.size());
    while (queue.parsed < end && may_go_on() && !turn.is_over()) {
        size_t size = std::min(kTurnPiece, end - queue.parsed);
        queue.parsed += size;
        queue.is_redelivering = true;
        us_socket_deliver(s, queue.unparsed.data() + queue.parsed - size, size);
        core.gil.ensure();
        queue.is_redelivering = false;
    }
    if (!handle->ws || queue.parsed == queue.unparsed.size()) {
        std::string().swap(queue.unparsed);
        queue.parsed = 0;
    } else if (!queue.is_paused) {  // by a handler, for another reason, or others have their turn: the rest comes first
        const bool is_put_off = may_go_on();
        pause_reading(queue, s);
        if (is_put_off) continue_reading(handle);
    }
    queue.charge();
}

}  // namespace

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
    if (queue.has_drain) return true;
    queue.has_drain = push(*handle->core, handle, {EventKind::kDrain, Ref(), kEventBytes});
    return true;
}

void keep_unparsed(WsObject *handle, std::string_view rest) {
    WsQueue &queue = *handle->queue;
    if (queue.is_redelivering) {
        queue.parsed -= rest.size();
        return;
    }
    try {
        queue.unparsed.append(rest);
    } catch (const std::bad_alloc &) {
        Lifecycle::fail(raw(handle->ws), kNoMemory);
        return;
    }
    queue.charge();
}

// --- going out ---

void run_held(ServerCore &core, WsObject *handle, Ref coroutine, Origin origin, Hold hold) {
    Ref keep = Ref::borrow(object(handle));
    const bool was_busy = handle->is_busy;
    handle->is_busy |= hold == Hold::kAll;
    Ref task = core.coroutines.run(handle, std::move(coroutine), origin, handle->context);
    handle->is_busy = was_busy;
    if (task && !hold_events(handle, std::move(task), hold)) core.log_failure(origin);
    if (handle->queue && handle->queue->close_is_due && !was_busy) pump_events(core, handle);
}

void pump_events(ServerCore &core, WsObject *handle) {
    WsQueue *queue = handle->queue;
    if (!queue || queue->is_pumping || core.is_forked || !core.instance) return;
    Ref keep = Ref::borrow(object(handle));
    ServerCore::DispatchScope entry(core);
    auto deliver_all = [&] {
        while (std::optional<WsEvent> event = next_event(*queue)) deliver(core, handle, std::move(*event));
    };
    queue->is_pumping = true;
    if (handle->ws && !queue->empty()) {
        us_socket_t *s = raw(handle->ws);
        cork_while(handle->ws, deliver_all);
        after_cork(s);
    } else {
        deliver_all();
    }
    queue->is_pumping = false;
    if (queue->close_is_due && queue->hold == Hold::kNothing && !handle->is_busy) run_deferred_close(core, handle);
    continue_reading(handle);
}

void pump_soon(WsObject *handle) {
    auto keep = std::make_shared<Ref>(Ref::borrow(object(handle)));
    bool posted =
        handle->core->post([keep](ServerCore &core) { pump_events(core, as_ws(keep->get())); }, "ServerWebSocket");
    if (!posted) {  // the server has ended, and with it every handler
        PyErr_Clear();
        handle->queue->clear();
    }
}

Ref take_message(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    size_t index = 0;
    while (index < queue.count() && queue.at(index).kind != EventKind::kMessage) index++;
    if (index == queue.count()) return Ref();
    WsEvent event = queue.take(index);
    if (queue.is_paused) continue_reading(handle);
    return std::move(event.payload);
}

void continue_reading(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (!queue.is_paused || queue.is_reading_soon || !queue.is_low()) return;
    ServerCore &core = *handle->core;
    if (!queue.empty() && !core.limits.has_memory_elsewhere(0)) return;
    auto keep = std::make_shared<Ref>(Ref::borrow(object(handle)));
    queue.is_reading_soon = true;
    if (!core.post([keep](ServerCore &core) { read_on(core, as_ws(keep->get())); }, "ServerWebSocket")) {
        PyErr_Clear();  // the server has ended: there is nothing to read
    }
}

namespace {

void end_hold(WsObject *handle) {
    if (!handle || !handle->queue || handle->queue->hold == Hold::kNothing) return;
    handle->queue->hold = Hold::kNothing;
    pump_soon(handle);
    Ref gone = std::move(handle->queue->task);
}

}  // namespace

void end_holds(ServerCore &core) {
    if (!core.instance || core.is_forked) return;
    SavedError error;
    core.instance->each_websocket([](us_socket_t *s) {
        end_hold(static_cast<WsObject *>(reinterpret_cast<Socket *>(s)->getUserData()->handle));
    });
    for (size_t i = 0; i < core.unfinished.size(); i++) end_hold(core.unfinished[i]);
}

// --- the end ---

void note_close(WsObject *handle, int code, std::string_view reason) {
    handle->close_code = static_cast<uint16_t>(code);
    if (reason.empty()) return;
    try {
        if (WsQueue *queue = queue_of(handle)) {
            queue->close_reason = reason;
            return;
        }
        PyErr_Clear();
    } catch (const std::bad_alloc &) {
    }
    // There is no memory for it: it will not be known.
}

bool defer_close(ServerCore &core, Ref &keep) {
    Ref own = Ref::borrow(keep.get());
    WsObject *handle = as_ws(own.get());
    bool must_wait = handle->is_busy && !core.stop.is_forced();
    WsQueue *queue = queue_of(handle);
    if (!queue) {
        PyErr_Clear();
        return false;
    }
    try {
        if (core.stop.is_forced() && !queue->iterator) queue->clear();
        bool goes_on = !queue->empty() && !queue->iterator && queue->hold == Hold::kNothing;
        must_wait |= (queue->hold == Hold::kAll || goes_on) && !core.stop.is_forced();
        if (must_wait) core.unfinished.push_back(handle);
    } catch (const std::bad_alloc &) {
        if (queue->iterator) wake_iterator(core, queue->iterator);
        return false;
    }
    std::string().swap(queue->unparsed);
    queue->parsed = 0;
    queue->charge();
    if (must_wait) {
        keep.release();  // `unfinished` has it
        queue->close_is_due = true;
        core.instance->hold_open();
        wake_closed(core, handle);
    }
    if (queue->iterator) wake_iterator(core, queue->iterator);
    return must_wait;
}

void finish_closes(ServerCore &core) {
    while (!core.unfinished.empty()) {
        WsObject *handle = core.unfinished.back();
        if (!handle->queue->iterator) handle->queue->clear();
        run_deferred_close(core, handle);
    }
}

}  // namespace uwserve
