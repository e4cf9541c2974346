#include "py/coroutines/coroutines.h"

#include "py/interpreter/objects.h"
#include "py/server/core.h"
#include "py/websocket/handler_hold.h"

namespace uwserve {

Coroutines::Coroutines(ServerCore &core) : spare(core, core.contexts), core_(core) {}

bool Coroutines::set_loop(PyObject *loop, PyObject *tools) {
    Ref tasks = tasks_ ? Ref::borrow(tasks_.get()) : Ref::steal(guarded<PySet_New>(nullptr));
    if (!tasks || !spare.set_loop(loop, tools)) return false;
    tasks_ = std::move(tasks);
    waits_ = true;
    return true;
}

void Coroutines::forget_loop() {
    leave_if_idle();
    end_holds(core_);
    Ref tasks = std::move(tasks_);
    spare.forget_loop();
}

bool Coroutines::watch(const Ref &task, PyObject *context, Driver *driver, WsObject *ws, Origin origin) {
    Py_CLEAR(driver->seen_task);
    driver->origin = origin;
    driver->is_started = true;
    driver->ws = Py_XNewRef(as_object(ws));
    core_.running_handlers.began(driver->running, ws, origin);
    driver->request = ws ? nullptr : Py_XNewRef(as_object(core_.contexts.request()));
    if (!tasks_ && !(tasks_ = Ref::steal(guarded<PySet_New>(nullptr)))) return false;
    if (PySet_Add(tasks_.get(), task.get()) != 0) return false;
    Ref callback = get_attribute(as_object(driver), "ended");
    Ref method = get_attribute(task.get(), "add_done_callback");
    Ref names = Ref::steal(guarded<Py_BuildValue>("(s)", "context"));
    if (!callback || !method || !names) return false;
    PyObject *stack[] = {nullptr, callback.get(), context};
    Ref added = Ref::steal(
        guarded<PyObject_Vectorcall>(method.get(), stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names.get()));
    Ref name =
        added ? Ref::steal(PyUnicode_FromFormat(ws ? "uwserve websocket.%s" : "uwserve %s", name_of(origin))) : Ref();
    if (!name || !guarded<PyObject_HasAttrString>(task.get(), "set_name")) return static_cast<bool>(name);
    return static_cast<bool>(call_method(task.get(), "set_name", "O", name.get()));
}

void Coroutines::task_ended(PyObject *task) {
    if (tasks_ && PySet_Discard(tasks_.get(), task) < 0) PyErr_Clear();
    if (!has_tasks()) core_.finish.task_ended();
}

void Coroutines::cancel_tasks() {
    if (!has_tasks()) return;
    SavedError error;
    Ref current = Ref::steal(guarded<PyObject_CallOneArg>(spare.tools().current_task, spare.loop()));
    Ref all = Ref::steal(guarded<PySequence_List>(tasks_.get()));
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all.get()); i++) {
        PyObject *task = PyList_GET_ITEM(all.get(), i);
        if (task != current.get() && !call_method(task, "cancel")) guarded<PyErr_WriteUnraisable>(task);
    }
    PyErr_Clear();
}

// --- garbage collection ---

int Coroutines::traverse(visitproc visit, void *arg) {
    Py_VISIT(tasks_.get());
    return spare.traverse(visit, arg);
}

void Coroutines::clear() {
    if (spare.is_entered()) return;
    spare.clear_idle_future();  // without waking the Task: this may be any thread
    forget_loop();
}

}  // namespace uwserve
