#include "py/websocket/handler_hold.h"

#include "py/websocket/queue.h"

namespace uwserve {

namespace {

PyObject *task_done(PyObject *self, PyObject *task) {
    WsObject *handle = as_ws(self);
    WsQueue *queue = handle->queue;
    if (!queue || queue->hold.task.get() != task) Py_RETURN_NONE;
    Ref ended = std::move(queue->hold.task);
    queue->hold.kind = Hold::Kind::kNone;
    if (handle->core->is_forked) Py_RETURN_NONE;
    if (handle->core->on_loop_thread() && handle->core->instance && !handle->core->instance->is_in_callback()) {
        deliver_events(*handle->core, handle);
    } else {
        deliver_soon(handle);  // also inside of a handler that runs the event loop
    }
    Py_RETURN_NONE;
}

PyMethodDef kTaskDone = {"task_done", raw_call<task_done>, METH_O, nullptr};

// Events of that kind wait until the task has ended. False with an exception set.
bool hold_events(WsObject *handle, Ref task, Hold::Kind kind) {
    WsQueue *queue = queue_of(handle);
    if (!queue) return false;
    if (queue->hold.is_set() && !is_true(queue->hold.task.get(), "done")) return true;  // the first of several counts
    Ref callback = Ref::steal(PyCFunction_New(&kTaskDone, as_object(handle)));
    if (!callback || !call_method(task.get(), "add_done_callback", "O", callback.get())) return false;
    Ref before = std::exchange(queue->hold.task, std::move(task));
    queue->hold.kind = kind;
    return true;
}

void end_hold(WsObject *handle) {
    if (!handle || !handle->queue || !handle->queue->hold.is_set()) return;
    handle->queue->hold.kind = Hold::Kind::kNone;
    deliver_soon(handle);
    Ref gone = std::move(handle->queue->hold.task);
}

}  // namespace

void run_held(ServerCore &core, WsObject *handle, Ref coroutine, Origin origin, Hold::Kind kind) {
    Ref keep = new_ref(handle);
    const bool was_busy = handle->is_busy;
    handle->is_busy |= kind == Hold::Kind::kAll;
    Ref task = start_coroutine(core, handle, std::move(coroutine), origin, handle->context);
    handle->is_busy = was_busy;
    if (task && !hold_events(handle, std::move(task), kind)) core.log_failure(origin);
    if (handle->queue && handle->queue->close.is_due && !was_busy) deliver_events(core, handle);
}

void end_holds(ServerCore &core) {
    if (!core.instance || core.is_forked) return;
    SavedError error;
    core.instance->for_each_websocket([](Socket *ws) { end_hold(static_cast<WsObject *>(ws->getUserData()->handle)); });
    for (size_t i = 0; i < core.unfinished.size(); i++) end_hold(core.unfinished[i]);
}

}  // namespace uwserve
