#include "py/coroutines/coroutines.h"

#include <optional>

#include "py/coroutines/step.h"
#include "py/websocket/queue.h"

namespace uwserve {

namespace {

constexpr int kIterableCoroutine = 0x100;  // CO_ITERABLE_COROUTINE

bool is_iterable_coroutine(PyObject *generator) {
    Ref code = Ref::steal(guarded<PyObject_GetAttrString>(generator, "gi_code"));
    if (!code || !PyCode_Check(code.get())) {
        PyErr_Clear();
        return false;
    }
    return reinterpret_cast<PyCodeObject *>(code.get())->co_flags & kIterableCoroutine;
}

// Compiled coroutines (Cython's) and other classes; what has no send() is a future and its owner's.
bool is_foreign_coroutine(PyObject *object) {
    PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;
    if (!methods || !methods->am_await) return false;
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("collections.abc"));
    Ref type = module ? Ref::steal(guarded<PyObject_GetAttrString>(module.get(), "Coroutine")) : Ref();
    int answer = type ? guarded<PyObject_IsInstance>(object, type.get()) : -1;
    if (answer < 0) PyErr_Clear();
    return answer > 0;
}

bool is_cancelled_error(PyObject *error) {
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("asyncio"));
    Ref type = module ? Ref::steal(guarded<PyObject_GetAttrString>(module.get(), "CancelledError")) : Ref();
    if (!type) PyErr_Clear();
    return type && PyErr_GivenExceptionMatches(error, type.get());
}

}  // namespace

bool is_other_coroutine(PyObject *object) {
    return PyGen_CheckExact(object) ? is_iterable_coroutine(object) : is_foreign_coroutine(object);
}

Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin) {
    RunningHandlers::Argument scope(core.running_handlers, nullptr);
    if (ws) return core.coroutines.run(ws, std::move(coroutine), origin, ws->context);
    Ref context = core.contexts.changed_copy();
    if (!context && PyErr_Occurred()) {
        coroutine_failed(core, ws, origin);
        return Ref();
    }
    return core.coroutines.run(ws, std::move(coroutine), origin, context.get());
}

void coroutine_failed(ServerCore &core, WsObject *ws, Origin origin) {
    Ref error = take_exception();
    bool is_cancelled = is_cancelled_error(error.get());
    if (!is_cancelled) PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
    if (is_cancelled) {
        error.reset();  // cancellation is no failure
    } else if (origin == Origin::kError) {
        core.log_failure(origin, ws);
    } else {
        core.handler_failed(ws, origin);
    }
    if (origin == Origin::kOpen && ws && ws->ws) core.close_handle(ws, 1011, {});
}

// --- the loop ---

bool Coroutines::set_loop(PyObject *loop, PyObject *tools) {
    constexpr Py_ssize_t kTools = sizeof(LoopTools) / sizeof(PyObject *);
    if (!PyTuple_Check(tools) || PyTuple_GET_SIZE(tools) != kTools) {
        PyErr_Format(PyExc_TypeError, "tools must be a tuple of %zd", kTools);
        return false;
    }
    PyObject **tool = &PyTuple_GET_ITEM(tools, 0);
    LoopTools named{tool[0], tool[1], tool[2], tool[3], tool[4], tool[5], tool[6], tool[7], tool[8], tool[9]};
    bool is_shared = PyDict_CheckExact(named.current_tasks) && PySet_CheckExact(named.all_tasks);
    Ref probe = is_shared ? Ref::steal(new_probe(core_, loop)) : Ref();
    Ref tasks = tasks_ ? Ref::borrow(tasks_.get()) : Ref::steal(guarded<PySet_New>(nullptr));
    if (!tasks || (is_shared && !probe) || !core_.contexts.base()) return false;
    if (probe && PySet_Add(named.all_tasks, probe.get()) != 0) return false;
    leave_if_idle();
    wake(std::exchange(spare_, Spare()));
    drop_probe();
    loop_ = Ref::borrow(loop);
    tools_object_ = Ref::borrow(tools);
    tools_ = named;
    probe_ = std::move(probe);
    tasks_ = std::move(tasks);
    waits_ = true;
    return true;
}

void Coroutines::forget_loop() {
    leave_if_idle();
    end_holds(core_);
    drop_probe();
    Ref loop = std::move(loop_), tools = std::move(tools_object_);
    Ref tasks = std::move(tasks_);
    Spare spare = std::exchange(spare_, Spare());
    if (!core_.is_forked) wake(spare);
}

Coroutines::~Coroutines() { drop_probe(); }

void Coroutines::drop_probe() {
    if (!probe_) return;
    SavedError error;
    retire_probe(probe_.get());
    if (PySet_Discard(tools_.all_tasks, probe_.get()) < 0) PyErr_Clear();
    probe_.reset();
}

// -1 with an exception set.
int Coroutines::is_running() {
    Ref running = Ref::steal(guarded<PyObject_CallNoArgs>(tools_.running_loop));
    return running ? running.get() == loop_.get() : -1;
}

// Makes sure that there is a loop that can run. False with an exception set.
bool Coroutines::find_loop() {
    if (loop_) {
        Ref is_closed = Ref::steal(guarded<PyObject_CallMethod>(loop_.get(), "is_closed", nullptr));
        if (!is_closed) return false;
        if (is_closed.get() != Py_True) return true;
    }
    return core_.run.ask_for_event_loop();
}

// --- starting ---

// With no task entered, inside another coroutine's step, or with a context that is not the base's.
Ref Coroutines::run_outside(WsObject *ws, Ref coroutine, Origin origin, PyObject *context) {
    // Inside another's step that one's Task is all that others may see of it, and this one has its own.
    const bool is_nested = busy_, was_entered = entered_, is_apart = is_nested || context;
    bool is_inside = is_apart || core_.contexts.is_in_use();
    Ref result, base = Ref::borrow(context ? context : core_.contexts.base());
    if (is_nested) {
        if (!look()) PyErr_Clear();  // it will find no Task
        reveal(spare_);
    }
    std::optional<Apart> apart;
    if (is_apart) {
        if (!is_nested) leave_if_idle();
        apart.emplace(*this, was_entered && is_nested, is_nested);
    }
    Contexts::Aside aside(core_.contexts, ws ? nullptr : core_.contexts.request());
    int running = loop_ ? is_running() : 0;
    if (running == 0) running = find_loop() ? is_running() : -1;
    bool is_later = running == 0 || (running > 0 && is_changing_);
    if (running > 0 && !is_later && base && enter(context)) {
        bool has_outer = static_cast<bool>(spare_.outer);
        result = step(ws, std::move(coroutine), origin);
        if (entered_ && (is_inside || has_outer || !pumping_)) leave();
    } else if (is_later && base) {
        result = start_later(ws, std::move(coroutine), origin, base.get());
    } else {
        SavedError error;
        Ref closed = Ref::steal(guarded<PyObject_CallMethod>(coroutine.get(), "close", nullptr));
        if (!closed) PyErr_Clear();
    }
    if (!result && PyErr_Occurred()) coroutine_failed(core_, ws, origin);
    return result;
}

// After the eager step, unless nothing is left of it. `out` is what it has yielded, or returned (none: None).
Ref Coroutines::stepped(WsObject *ws, Ref coroutine, PySendResult status, Ref out, Origin origin) {
    NotBusy at_end{busy_};
    if (status == PYGEN_NEXT) return suspended(ws, std::move(coroutine), std::move(out), origin);
    Ref outcome = std::move(out);
    if (status == PYGEN_RETURN) {
        coroutine.reset();
    } else {
        outcome = take_exception();
        coroutine.reset();
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(outcome.get())), outcome.get());
        coroutine_failed(core_, ws, origin);
    }
    if (was_touched()) [[unlikely]] {
        Driver *driver = as_driver(spare_.driver);
        driver->outcome = outcome.release();
        driver->has_failed = status == PYGEN_ERROR;
        if (driver->has_failed) {
            Ref callback = Ref::steal(guarded<PyObject_GetAttrString>(spare_.driver.get(), "forget"));
            Ref added = callback ? Ref::steal(guarded<PyObject_CallMethod>(spare_.task.get(), "add_done_callback", "O",
                                                                           callback.get()))
                                 : Ref();
            if (!added) PyErr_Clear();
        }
        leave();
        Spare own = std::exchange(spare_, Spare());
        reveal(own);
        wake(own);
    }
    return Ref();
}

// The spare becomes the coroutine's Task.
Ref Coroutines::suspended(WsObject *ws, Ref coroutine, Ref first, Origin origin) {
    leave();
    busy_ = false;
    has_begun_ = true;
    Spare own = std::exchange(spare_, Spare());
    Driver *driver = as_driver(own.driver);
    driver->coroutine = coroutine.release();
    driver->first = first.release();
    reveal(own);
    wake(own);
    if (!keep(own.task, own.context.get(), driver, ws, origin)) core_.log_failure(origin, ws);
    return std::move(own.task);
}

// While the event loop does not run: a Task that begins when it does.
Ref Coroutines::start_later(WsObject *ws, Ref coroutine, Origin origin, PyObject *base) {
    Ref driver = Ref::steal(reinterpret_cast<PyObject *>(new_driver(core_)));
    Ref context, pristine;
    Ref task = driver ? make_task(as_driver(driver), base, &context, &pristine) : Ref();
    if (!task) {
        SavedError error;
        Ref closed = Ref::steal(guarded<PyObject_CallMethod>(coroutine.get(), "close", nullptr));
        if (!closed) PyErr_Clear();
        return Ref();
    }
    as_driver(driver)->coroutine = coroutine.release();
    if (!keep(task, context.get(), as_driver(driver), ws, origin)) core_.log_failure(origin, ws);
    return task;
}

// Notes a Task that has its coroutine now, and its end is dealt with in its context. False with an exception set.
bool Coroutines::keep(const Ref &task, PyObject *context, Driver *driver, WsObject *ws, Origin origin) {
    Py_CLEAR(driver->kept);
    driver->origin = origin;
    driver->is_started = true;
    driver->ws = Py_XNewRef(reinterpret_cast<PyObject *>(ws));
    core_.running_handlers.began(driver->running, ws, origin);
    driver->request = ws ? nullptr : Py_XNewRef(reinterpret_cast<PyObject *>(core_.contexts.request()));
    if (!tasks_ && !(tasks_ = Ref::steal(guarded<PySet_New>(nullptr)))) return false;
    if (PySet_Add(tasks_.get(), task.get()) != 0) return false;
    Ref callback = Ref::steal(guarded<PyObject_GetAttrString>(reinterpret_cast<PyObject *>(driver), "ended"));
    Ref method = Ref::steal(guarded<PyObject_GetAttrString>(task.get(), "add_done_callback"));
    Ref names = Ref::steal(guarded<Py_BuildValue>("(s)", "context"));
    if (!callback || !method || !names) return false;
    PyObject *stack[] = {nullptr, callback.get(), context};
    Ref added = Ref::steal(
        guarded<PyObject_Vectorcall>(method.get(), stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names.get()));
    Ref name =
        added ? Ref::steal(PyUnicode_FromFormat(ws ? "uwserve websocket.%s" : "uwserve %s", name_of(origin))) : Ref();
    if (!name || !guarded<PyObject_HasAttrString>(task.get(), "set_name")) return static_cast<bool>(name);
    return Ref::steal(guarded<PyObject_CallMethod>(task.get(), "set_name", "O", name.get())) ? true : false;
}

void Coroutines::task_ended(PyObject *task) {
    if (tasks_ && PySet_Discard(tasks_.get(), task) < 0) PyErr_Clear();
    if (!has_tasks()) core_.finish.task_ended();
}

void Coroutines::cancel_tasks() {
    if (!has_tasks()) return;
    SavedError error;
    Ref current = Ref::steal(guarded<PyObject_CallOneArg>(tools_.current_task, loop_.get()));
    Ref all = Ref::steal(guarded<PySequence_List>(tasks_.get()));
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(all.get()); i++) {
        PyObject *task = PyList_GET_ITEM(all.get(), i);
        if (task == current.get()) continue;
        Ref asked = Ref::steal(guarded<PyObject_CallMethod>(task, "cancel", nullptr));
        if (!asked) guarded<PyErr_WriteUnraisable>(task);
    }
    PyErr_Clear();
}

// --- garbage collection ---

int Coroutines::traverse(visitproc visit, void *arg) {
    if (int result = traverse_spare(visit, arg)) return result;
    for (Ref *ref :
         {&loop_, &tools_object_, &tasks_, &spare_.driver, &spare_.context, &spare_.pristine, &spare_.outer}) {
        Py_VISIT(ref->get());
    }
    return 0;
}

}  // namespace uwserve
