#include "py/websocket/handler_hold.h"

#include "py/websocket/queue.h"

namespace uwserve {

namespace {

PyObject *object(WsObject *handle) { return reinterpret_cast<PyObject *>(handle); }

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
        deliver_soon(handle);  // also inside a handler, which an event loop that is run in one can do
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
bool hold_events(WsObject *handle, Ref task, Hold::Kind kind) {
    WsQueue *queue = queue_of(handle);
    if (!queue) return false;
    if (queue->hold.is_set() && !is_done(queue->hold.task.get())) return true;  // of several, the first
    Ref callback = Ref::steal(PyCFunction_New(&kTaskDone, object(handle)));
    if (!callback) return false;
    Ref added = Ref::steal(guarded<PyObject_CallMethod>(task.get(), "add_done_callback", "O", callback.get()));
    if (!added) return false;
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
    Ref keep = Ref::borrow(object(handle));
    const bool was_busy = handle->is_busy;
    handle->is_busy |= kind == Hold::Kind::kAll;
    Ref task = core.coroutines.run(handle, std::move(coroutine), origin, handle->context);
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
