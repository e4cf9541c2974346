#include "coroutines.h"

#include "ws_queue.h"

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

PyObject *call(PyObject *function, const Ref &first, const Ref &second) {
    PyObject *stack[] = {nullptr, first.get(), second.get()};
    return guarded<PyObject_Vectorcall>(function, stack + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

// The only object that `whole` refers to and that is a Context, or is none; a borrowed reference, or NULL.
PyObject *only_part(PyObject *whole, bool is_context) {
    struct Search {
        bool is_context;
        PyObject *found;
        int count;
    } search{is_context, nullptr, 0};
    if (!Py_TYPE(whole)->tp_traverse) return nullptr;
    Py_TYPE(whole)->tp_traverse(whole, [](PyObject *part, void *arg) {
        auto *search = static_cast<Search *>(arg);
        if (PyContext_CheckExact(part) != search->is_context) return 0;
        search->found = part;
        search->count++;
        return 0;
    }, &search);
    return search.count == 1 ? search.found : nullptr;
}

// Which pointer of a Context that is, counted from its beginning: to look there is cheaper than to traverse it. 0 when it
// cannot be told.
size_t place_of(PyObject *variables, PyObject *context) {
    PyObject *const *pointers = reinterpret_cast<PyObject **>(context);
    size_t count = static_cast<size_t>(Py_TYPE(context)->tp_basicsize) / sizeof(PyObject *), found = 0;
    for (size_t i = sizeof(PyObject) / sizeof(PyObject *); variables && i < count; i++) {
        if (pointers[i] != variables) continue;
        if (found) return 0;
        found = i;
    }
    return found;
}

// The context that a new Task runs in; a borrowed reference, or NULL. (Task(context=...) begins with Python 3.11.)
PyObject *context_of(PyObject *task) { return only_part(task, true); }

bool is_cancelled_error(PyObject *error) {
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("asyncio"));
    Ref type = module ? Ref::steal(guarded<PyObject_GetAttrString>(module.get(), "CancelledError")) : Ref();
    if (!type) PyErr_Clear();
    return type && PyErr_GivenExceptionMatches(error, type.get());
}

}  // namespace

// A Context refers to them, and to the one that was entered before it.
PyObject *variables_of(PyObject *context) { return only_part(context, false); }

bool is_other_coroutine(PyObject *object) {
    return PyGen_CheckExact(object) ? is_iterable_coroutine(object) : is_foreign_coroutine(object);
}

Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, const char *where) {
    return core.coroutines.run(ws, std::move(coroutine), where);
}

void coroutine_failed(ServerCore &core, WsObject *ws, const char *where) {
    Ref error = take_exception();
    bool is_cancelled = is_cancelled_error(error.get());
    if (!is_cancelled) PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
    if (is_cancelled) {
        error.reset();  // somebody's wish, and no failure
    } else if (strcmp(where, "error") == 0) {
        core.log_failure(where, ws);
    } else {
        core.handler_failed(ws, where);
    }
    if (is_open_handler(where) && ws && ws->ws) core.close_handle(ws, 1011, {});
}

// --- the loop ---

bool Coroutines::set_loop(PyObject *loop, PyObject *tools) {
    if (!PyTuple_Check(tools) || PyTuple_GET_SIZE(tools) != 8) {
        PyErr_SetString(PyExc_TypeError, "tools must be a tuple of eight functions");
        return false;
    }
    Ref context = Ref::steal(guarded<PyContext_CopyCurrent>());
    Ref tasks = tasks_ ? Ref::borrow(tasks_.get()) : Ref::steal(guarded<PySet_New>(nullptr));
    if (!context || !tasks) return false;
    leave_if_idle();
    wake(std::exchange(spare_, Spare()), nullptr);
    loop_ = Ref::borrow(loop);
    tools_object_ = Ref::borrow(tools);
    tools_ = {PyTuple_GET_ITEM(tools, 0), PyTuple_GET_ITEM(tools, 1), PyTuple_GET_ITEM(tools, 2),
              PyTuple_GET_ITEM(tools, 3), PyTuple_GET_ITEM(tools, 4), PyTuple_GET_ITEM(tools, 5),
              PyTuple_GET_ITEM(tools, 6), PyTuple_GET_ITEM(tools, 7)};
    base_context_ = std::move(context);
    tasks_ = std::move(tasks);
    waits_ = true;
    return true;
}

void Coroutines::forget_loop() {
    leave_if_idle();
    end_holds(core_);
    Ref loop = std::move(loop_), tools = std::move(tools_object_), context = std::move(base_context_);
    Ref tasks = std::move(tasks_);
    Spare spare = std::exchange(spare_, Spare());
    if (!core_.is_forked) wake(spare, nullptr);
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
    return core_.ask_for_event_loop();
}

// --- starting ---

// With no task entered, or inside another coroutine's step.
Ref Coroutines::run_outside(WsObject *ws, Ref coroutine, const char *where) {
    bool is_nested = busy_, was_entered = entered_;
    Ref result;
    Spare outer;
    if (is_nested) {
        outer = std::exchange(spare_, Spare());
        entered_ = busy_ = false;
    }
    int running = loop_ ? is_running() : 0;
    if (running == 0) running = find_loop() ? is_running() : -1;
    bool is_later = running == 0 || (running > 0 && is_changing_);
    if (running > 0 && !is_later && enter()) {
        bool has_outer = static_cast<bool>(spare_.outer);
        result = run(ws, std::move(coroutine), where);
        if (entered_ && (is_nested || has_outer || !pumping_)) leave();
    } else if (is_later) {
        result = start_later(ws, std::move(coroutine), where);
    } else {
        SavedError error;
        Ref closed = Ref::steal(guarded<PyObject_CallMethod>(coroutine.get(), "close", nullptr));
        if (!closed) PyErr_Clear();
    }
    if (!result && PyErr_Occurred()) coroutine_failed(core_, ws, where);
    if (is_nested) {
        if (entered_) leave();
        spare_ = std::move(outer);
        entered_ = was_entered;
        busy_ = true;
    }
    return result;
}

// After the eager step, unless nothing is left of it. `out` is what it has yielded, or returned (none: None).
Ref Coroutines::stepped(WsObject *ws, Ref coroutine, PySendResult status, Ref out, const char *where) {
    if (status == PYGEN_NEXT) {
        busy_ = false;
        return suspended(ws, std::move(coroutine), std::move(out), where);
    }
    Ref outcome = std::move(out);
    if (status == PYGEN_RETURN) {
        coroutine.reset();
    } else {
        outcome = take_exception();
        coroutine.reset();
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(outcome.get())), outcome.get());
        coroutine_failed(core_, ws, where);
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
        wake(own, own.task.get());
    }
    busy_ = false;
    return Ref();
}

// The spare becomes the coroutine's Task.
Ref Coroutines::suspended(WsObject *ws, Ref coroutine, Ref first, const char *where) {
    leave();
    has_begun_ = true;
    Spare own = std::exchange(spare_, Spare());
    Driver *driver = as_driver(own.driver);
    driver->coroutine = coroutine.release();
    driver->first = first.release();
    wake(own, own.task.get());
    if (!keep(own.task.get(), driver, ws, where)) core_.log_failure(where, ws);
    return std::move(own.task);
}

// While the event loop does not run: a Task that begins when it does.
Ref Coroutines::start_later(WsObject *ws, Ref coroutine, const char *where) {
    Ref driver = Ref::steal(reinterpret_cast<PyObject *>(new_driver(core_)));
    Ref context, pristine;
    Ref task = driver ? make_task(driver.get(), &context, &pristine) : Ref();
    if (!task) {
        SavedError error;
        Ref closed = Ref::steal(guarded<PyObject_CallMethod>(coroutine.get(), "close", nullptr));
        if (!closed) PyErr_Clear();
        return Ref();
    }
    as_driver(driver)->coroutine = coroutine.release();
    if (!keep(task.get(), as_driver(driver), ws, where)) core_.log_failure(where, ws);
    return task;
}

// Notes a Task that has its coroutine now. False with an exception set.
bool Coroutines::keep(PyObject *task, Driver *driver, WsObject *ws, const char *where) {
    Py_CLEAR(driver->kept);
    driver->where = where;
    driver->ws = Py_XNewRef(reinterpret_cast<PyObject *>(ws));
    if (!tasks_ && !(tasks_ = Ref::steal(guarded<PySet_New>(nullptr)))) return false;
    if (PySet_Add(tasks_.get(), task) != 0) return false;
    Ref callback = Ref::steal(guarded<PyObject_GetAttrString>(reinterpret_cast<PyObject *>(driver), "ended"));
    Ref added =
        callback ? Ref::steal(guarded<PyObject_CallMethod>(task, "add_done_callback", "O", callback.get())) : Ref();
    Ref name = added ? Ref::steal(PyUnicode_FromFormat(ws ? "uwserve websocket.%s" : "uwserve %s", where)) : Ref();
    return name && Ref::steal(guarded<PyObject_CallMethod>(task, "set_name", "O", name.get()));
}

void Coroutines::task_ended(PyObject *task) {
    if (tasks_ && PySet_Discard(tasks_.get(), task) < 0) PyErr_Clear();
    if (!has_tasks()) core_.task_ended();
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

// --- the spare ---

// A Task in a context of its own, which is a copy of the one that the server was attached in.
Ref Coroutines::make_task(PyObject *driver, Ref *context, Ref *pristine) {
    Ref copy = Ref::steal(guarded<PyContext_Copy>(base_context_.get()));
    if (!copy || PyContext_Enter(copy.get()) != 0) return Ref();
    Ref task = Ref::steal(guarded<PyObject_CallFunctionObjArgs>(tools_.make_task, driver, loop_.get(), nullptr));
    {
        SavedError error;
        if (PyContext_Exit(copy.get()) != 0) guarded<PyErr_WriteUnraisable>(copy.get());
    }
    if (!task) return task;
    PyObject *own = context_of(task.get());
    if (!own) {
        PyErr_SetString(PyExc_RuntimeError, "this asyncio's Task does not show its context");
        return Ref();
    }
    *context = Ref::borrow(own);
    *pristine = std::move(copy);
    return task;
}

bool Coroutines::make_spare() {
    Spare fresh;
    fresh.driver = Ref::steal(reinterpret_cast<PyObject *>(new_driver(core_)));
    fresh.task = fresh.driver ? make_task(fresh.driver.get(), &fresh.context, &fresh.pristine) : Ref();
    if (!fresh.task) return false;
    fresh.variables = variables_of(fresh.context.get());
    variables_at_ = place_of(fresh.variables, fresh.context.get());
    wake(std::exchange(spare_, std::move(fresh)), nullptr);
    return true;
}

PyObject *Coroutines::park(Driver *driver) {
    auto is_wanted = [&] {
        return spare_.driver.get() == reinterpret_cast<PyObject *>(driver) && !entered_ && !driver->kept;
    };
    if (!is_wanted()) return nullptr;
    if (!driver->parking) {
        Changing changing(is_changing_);
        Ref parking =
            Ref::steal(guarded<PyObject_CallFunctionObjArgs>(tools_.park, spare_.task.get(), loop_.get(), nullptr));
        if (!parking) guarded<PyErr_WriteUnraisable>(spare_.task.get());
        if (!parking || parking.get() == Py_None || !is_wanted()) return nullptr;
        Py_XSETREF(driver->parking, parking.release());
    }
    return Py_NewRef(driver->parking);
}

// Parked and not in use, nobody else would wake it. Its next step ends it.
void Coroutines::touched(Driver *driver) {
    if (entered_ || core_.is_forked || spare_.driver.get() != reinterpret_cast<PyObject *>(driver)) return;
    Ref task = Ref::borrow(spare_.task.get());
    wake(spare_, task.get());
}

// A parked Task takes its next step in the loop's next turn: with a coroutine as that `task`, which is known to all
// again, or to end without a word.
void Coroutines::wake(const Spare &spare, PyObject *task) {
    if (!spare.driver || !as_driver(spare.driver)->parking) return;
    SavedError error;
    Changing changing(is_changing_);
    Ref parking = Ref::steal(std::exchange(as_driver(spare.driver)->parking, nullptr));
    for (int i = 0; i < 2; i++) {
        Ref woken = Ref::steal(guarded<PyObject_CallMethod>(parking.get(), "wake", "O", task ? task : Py_None));
        if (woken) return;
        if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
            PyErr_Clear();  // the loop is closed, and with it all its Tasks
            return;
        }
        core_.log_failure("task");  // a KeyboardInterrupt, say: it ends the run, but not before the Task goes on
    }
}

// False with an exception set.
bool Coroutines::enter() {
    Changing changing(is_changing_);
    if (entered_) leave();  // somebody has changed its Task while no coroutine used it: it is not ours any more
    if (!spare_.task || as_driver(spare_.driver)->expired || as_driver(spare_.driver)->kept ||
        (spare_.variables && variables() != spare_.variables)) {
        if (!make_spare()) return false;
    }
    show(tools_.show);  // here and in leave(): while the spare is not entered, as Python code may run in it
    Ref outer = Ref::steal(guarded<PyObject_CallOneArg>(tools_.current_task, loop_.get()));
    if (!outer) return false;
    if (outer.get() != Py_None) {
        Ref left = Ref::steal(call(tools_.leave_task, loop_, outer));
        if (!left) return false;
        spare_.outer = std::move(outer);
    }
    entered_ = true;
    Ref done = Ref::steal(call(tools_.enter_task, loop_, spare_.task));
    if (!done || PyContext_Enter(spare_.context.get()) != 0) {
        SavedError error;
        leave();
        return false;
    }
    spare_.references = spare_.variables ? Py_REFCNT(spare_.task.get()) : -1;
    spare_.context_references = Py_REFCNT(spare_.context.get());
    return true;
}

// A parked Task is one of all_tasks() only while a coroutine uses it.
void Coroutines::show(PyObject *how) {
    if (!as_driver(spare_.driver)->parking) return;
    Ref done = Ref::steal(guarded<PyObject_CallOneArg>(how, spare_.task.get()));
    if (!done) guarded<PyErr_WriteUnraisable>(spare_.task.get());
}

void Coroutines::leave() {
    SavedError error;
    Changing changing(is_changing_);
    entered_ = false;
    if (PyContext_Exit(spare_.context.get()) != 0) guarded<PyErr_WriteUnraisable>(spare_.task.get());
    Ref left = Ref::steal(call(tools_.leave_task, loop_, spare_.task));
    if (!left) guarded<PyErr_WriteUnraisable>(spare_.task.get());
    if (Ref outer = std::move(spare_.outer)) {
        Ref back = Ref::steal(call(tools_.enter_task, loop_, outer));
        if (!back) guarded<PyErr_WriteUnraisable>(outer.get());
    }
    show(tools_.hide);
}

// --- garbage collection ---

int Coroutines::traverse(visitproc visit, void *arg) {
    for (Ref *ref : {&loop_, &tools_object_, &base_context_, &tasks_, &spare_.task, &spare_.driver, &spare_.context,
                     &spare_.pristine, &spare_.outer}) {
        Py_VISIT(ref->get());
    }
    return 0;
}

void Coroutines::clear() {
    if (entered_) return;
    if (spare_.driver) Py_CLEAR(as_driver(spare_.driver)->parking);  // not woken: this may be any thread
    forget_loop();
}

}  // namespace uwserve
