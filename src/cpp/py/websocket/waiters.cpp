#include "py/websocket/waiters.h"

#include "docstrings.h"
#include "py/websocket/queue.h"

namespace uwserve {

namespace {

// (code, reason); 1006 if the server ended without closing the socket.
Ref how_it_closed(WsObject *handle) {
    std::string_view reason = handle->queue ? std::string_view(handle->queue->close.reason) : std::string_view();
    Ref text = Ref::steal(make_utf8(reason, "replace"));
    if (!text) return Ref();
    return Ref::steal(guarded<Py_BuildValue>("iO", handle->close_code ? handle->close_code : 1006, text.get()));
}

void call_back(ServerCore &core, const Ref &callback, PyObject *outcome) {
    Ref result = Ref::steal(guarded<PyObject_CallOneArg>(callback.get(), outcome));
    if (!result) core.log_failure(Origin::kWaiter);
}

// None means kOnlyClose. False with an exception set.
bool read_mark(PyObject *below, size_t *mark) {
    *mark = Waiter::kOnlyClose;
    if (below == Py_None) return true;
    *mark = PyLong_AsSize_t(below);
    return !(*mark == static_cast<size_t>(-1) && PyErr_Occurred());
}

// The outcome if there is one already: (code, reason), or True for a backlog that is small enough; else None.
PyObject *outcome_now(WsObject *self, size_t mark) {
    if (!self->ws) return how_it_closed(self).release();
    bool is_drained = mark != Waiter::kOnlyClose && self->core->on_loop_thread() && buffered_of(raw(self->ws)) <= mark;
    return Py_NewRef(is_drained ? Py_True : Py_None);
}

PyObject *add_waiter(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"callback", "below"};
    static constexpr const char *call = "add_waiter";
    WsObject *self = as_ws(object);
    PyObject *given[2];
    size_t mark;
    if (!read_args(call, args, count, names, parameters, 2, 2, given) || !read_mark(given[1], &mark)) return nullptr;
    if (!self->core->check_alive("waiting for a ServerWebSocket")) return nullptr;
    Ref now = Ref::steal(outcome_now(self, mark));
    if (!now || now.get() != Py_None || given[0] == Py_None) return now.release();

    WsQueue *queue = queue_of(self);
    if (!queue) return nullptr;
    try {
        queue->waiters.push_back({Ref::borrow(given[0]), mark});
    } catch (const std::bad_alloc &) {
        return PyErr_NoMemory();
    }
    if (mark == Waiter::kOnlyClose || self->core->on_loop_thread()) return now.release();
    return post_for(self, "waiting for a ServerWebSocket", wake_drained) ? now.release() : nullptr;
}

PyObject *remove_waiter(PyObject *object, PyObject *callback) {
    WsQueue *queue = as_ws(object)->queue;
    for (size_t i = 0; queue && i < queue->waiters.size(); i++) {
        if (queue->waiters[i].callback.get() != callback) continue;
        Ref gone = std::move(queue->waiters[i].callback);
        queue->waiters.erase(queue->waiters.begin() + static_cast<std::ptrdiff_t>(i));
        break;
    }
    Py_RETURN_NONE;
}

}  // namespace

void wake_drained(ServerCore &core, WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (queue.waiters.empty() || !handle->ws) return;
    Ref keep = new_ref(handle);
    size_t backlog = buffered_of(raw(handle->ws));
    std::vector<Waiter> drained;
    auto is_drained = [backlog](const Waiter &waiter) {
        return waiter.mark != Waiter::kOnlyClose && backlog <= waiter.mark;
    };
    for (Waiter &waiter : queue.waiters) {
        if (is_drained(waiter)) drained.push_back({Ref::borrow(waiter.callback.get()), waiter.mark});
    }
    std::erase_if(queue.waiters, is_drained);
    if (!drained.empty()) core.coroutines.needs_turn();
    for (Waiter &waiter : drained) call_back(core, waiter.callback, Py_None);
}

void wake_closed(ServerCore &core, WsObject *handle) {
    Ref keep = new_ref(handle);
    std::vector<Waiter> waiters = std::exchange(handle->queue->waiters, {});
    if (waiters.empty()) return;
    core.coroutines.needs_turn();
    Ref outcome = how_it_closed(handle);
    if (!outcome) {
        core.log_failure(Origin::kWaiter);
        return;
    }
    for (Waiter &waiter : waiters) call_back(core, waiter.callback, outcome.get());
}

PyMethodDef kWaiterMethods[] = {
    {"add_waiter", raw_fastcall<add_waiter>(), METH_FASTCALL | METH_KEYWORDS, docs::kadd_waiter},
    {"remove_waiter", raw_call<remove_waiter>, METH_O, docs::kremove_waiter},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
