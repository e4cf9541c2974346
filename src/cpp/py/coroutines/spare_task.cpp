#include "py/coroutines/spare_task.h"

#include "py/coroutines/probe.h"
#include "py/interpreter/objects.h"
#include "py/server/core.h"

namespace uwserve {

namespace {

Ref call(PyObject *function, const Ref &first, const Ref &second) {
    PyObject *stack[] = {nullptr, first.get(), second.get()};
    return Ref::steal(guarded<PyObject_Vectorcall>(function, stack + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
}

// The garbage collector lists the Task again, in place of traverse().
void track(PyObject *task) {
    if (!PyObject_GC_IsTracked(task)) PyObject_GC_Track(task);
}

}  // namespace

// --- the loop ---

bool SpareTask::set_loop(PyObject *loop, PyObject *tools) {
    constexpr Py_ssize_t kTools = sizeof(LoopTools) / sizeof(PyObject *);
    if (!PyTuple_Check(tools) || PyTuple_GET_SIZE(tools) != kTools) {
        PyErr_Format(PyExc_TypeError, "tools must be a tuple of %zd", kTools);
        return false;
    }
    PyObject **tool = &PyTuple_GET_ITEM(tools, 0);
    LoopTools named{tool[0], tool[1], tool[2], tool[3], tool[4], tool[5], tool[6], tool[7], tool[8], tool[9]};
    bool is_shared = PyDict_CheckExact(named.current_tasks) && PySet_CheckExact(named.all_tasks);
    Ref probe = is_shared ? Ref::steal(new_probe(*core_.state, *this, loop)) : Ref();
    if ((is_shared && !probe) || !contexts_.base()) return false;
    if (probe && PySet_Add(named.all_tasks, probe.get()) != 0) return false;
    leave_if_idle();
    wake(std::exchange(parts_, Parts()));
    drop_probe();
    loop_ = Ref::borrow(loop);
    tools_object_ = Ref::borrow(tools);
    tools_ = named;
    probe_ = std::move(probe);
    return true;
}

void SpareTask::forget_loop() {
    drop_probe();
    Ref loop = std::move(loop_), tools = std::move(tools_object_);
    Parts spare = std::exchange(parts_, Parts());
    if (!core_.is_forked) wake(spare);
}

void SpareTask::drop_probe() {
    if (!probe_) return;
    SavedError error;
    retire_probe(probe_.get());
    if (PySet_Discard(tools_.all_tasks, probe_.get()) < 0) PyErr_Clear();
    probe_.reset();
}

// --- making and hiding ---

Ref SpareTask::make_task(Driver *driver, PyObject *base, Ref *context, Ref *pristine) {
    Ref copy = Ref::steal(guarded<PyContext_Copy>(base));
    if (!copy || PyContext_Enter(copy.get()) != 0) return Ref();
    driver->is_new = true;
    Ref task =
        Ref::steal(guarded<PyObject_CallFunctionObjArgs>(tools_.make_task, as_object(driver), loop_.get(), nullptr));
    driver->is_new = false;
    {
        SavedError error;
        if (PyContext_Exit(copy.get()) != 0) guarded<PyErr_WriteUnraisable>(copy.get());
    }
    if (!task) return task;
    Ref own = Ref::borrow(context_of(task.get()));
    if (!own) own = get_attribute(task.get(), "_context");  // a Task of pure Python
    if (!own || !PyContext_CheckExact(own.get())) {
        PyErr_SetString(PyExc_RuntimeError, "this asyncio's Task does not show its context");
        return Ref();
    }
    *context = std::move(own);
    *pristine = std::move(copy);
    return task;
}

// The new spare is known to its loop, and hidden from all other code if that is requested and possible.
bool SpareTask::make(PyObject *base, bool is_hidden) {
    Parts fresh;
    fresh.driver = Ref::steal(as_object(new_driver(core_)));
    fresh.task = fresh.driver ? make_task(as_driver(fresh.driver), base, &fresh.context, &fresh.pristine) : Ref();
    if (!fresh.task) return false;
    fresh.variables = contexts_.variables(fresh.context.get());
    if (is_hidden && fresh.variables) {
        Ref hidden = Ref::steal(guarded<PyObject_CallOneArg>(tools_.hide, fresh.task.get()));
        if (!hidden) return false;
        fresh.is_hidden = true;
        PyObject_GC_UnTrack(fresh.task.get());
    }
    wake(std::exchange(parts_, std::move(fresh)));
    return true;
}

void SpareTask::reveal(Parts &spare) {
    if (!std::exchange(spare.is_hidden, false)) return;
    track(spare.task.get());
    SavedError error;
    Ref done = Ref::steal(guarded<PyObject_CallOneArg>(tools_.reveal, spare.task.get()));
    if (!done) guarded<PyErr_WriteUnraisable>(spare.task.get());
}

PyObject *SpareTask::idle_future_of(Driver *driver) {
    auto is_wanted = [&] {
        return parts_.driver.get() == as_object(driver) && parts_.is_hidden && !is_entered_ && !driver->seen_task;
    };
    if (!is_wanted()) return nullptr;
    if (!driver->idle_future) {
        Preparing preparing(is_preparing_);
        Ref idle_future = Ref::steal(guarded<PyObject_CallOneArg>(tools_.new_idle_future, loop_.get()));
        if (!idle_future) guarded<PyErr_WriteUnraisable>(parts_.task.get());
        if (!idle_future || !is_wanted()) return nullptr;
        Py_XSETREF(driver->idle_future, idle_future.release());
    }
    return Py_NewRef(driver->idle_future);
}

// The Task is no spare any more. If it waits, it takes its next step in the loop's next turn: with a coroutine, or to
// end.
void SpareTask::wake(const Parts &spare) {
    if (!spare.task) return;
    track(spare.task.get());
    if (!as_driver(spare.driver)->idle_future) return;
    SavedError error;
    Preparing preparing(is_preparing_);
    Ref idle_future = Ref::steal(std::exchange(as_driver(spare.driver)->idle_future, nullptr));
    for (int i = 0; i < 2; i++) {
        if (call_method(idle_future.get(), "wake")) return;
        if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
            PyErr_Clear();  // the loop is closed, and with it all its Tasks
            return;
        }
        core_.log_failure(Origin::kTask);  // KeyboardInterrupt, for instance: it ends the run, after the Task's step
    }
}

// A factory must make every Task. It may be set at any time, so each pump looks for it.
bool SpareTask::has_task_factory() {
    Ref factory = call_method(loop_.get(), "get_task_factory");
    if (!factory) PyErr_Clear();
    return factory && factory.get() != Py_None;
}

// --- around a coroutine's first step ---

bool SpareTask::enter(PyObject *context) {
    Preparing preparing(is_preparing_);
    leave_if_idle();  // its Task was seen while no coroutine used it, so it cannot serve any more
    bool is_shared = probe_ && !context && !has_task_factory();
    if (!parts_.task || !is_shared || !parts_.is_hidden || as_driver(parts_.driver)->expired ||
        as_driver(parts_.driver)->seen_task || variables() != parts_.variables) {
        if (!make(context ? context : contexts_.base(), is_shared)) return false;
    }
    Ref outer = probe_ ? Ref::borrow(guarded<PyDict_GetItemWithError>(tools_.current_tasks, loop_.get()))
                       : Ref::steal(guarded<PyObject_CallOneArg>(tools_.current_task, loop_.get()));
    if (!outer && PyErr_Occurred()) return false;
    if (outer && outer.get() != Py_None) {
        if (!call(tools_.leave_task, loop_, outer)) return false;
        parts_.outer = std::move(outer);
    }
    is_entered_ = true;
    bool is_in = parts_.is_hidden ? enter_probe() : static_cast<bool>(call(tools_.enter_task, loop_, parts_.task));
    if (!is_in || PyContext_Enter(parts_.context.get()) != 0) {
        SavedError error;
        leave();
        return false;
    }
    // Any code can see a Task that is not hidden, at any time, so the Task is this coroutine's in any case.
    parts_.references = parts_.is_hidden ? Py_REFCNT(parts_.task.get()) : -1;
    parts_.context_references = Py_REFCNT(parts_.context.get());
    return true;
}

bool SpareTask::enter_probe() {
    if (guarded<PyDict_SetItem>(tools_.current_tasks, probe_.get(), Py_None) != 0) return false;
    is_probed_ = true;
    return true;
}

void SpareTask::leave() {
    SavedError error;
    Preparing preparing(is_preparing_);
    is_entered_ = false;
    if (PyContext_Exit(parts_.context.get()) != 0) guarded<PyErr_WriteUnraisable>(parts_.task.get());
    if (std::exchange(is_probed_, false)) {
        if (guarded<PyDict_DelItem>(tools_.current_tasks, probe_.get()) != 0) PyErr_Clear();  // it was emptied
    } else if (!call(tools_.leave_task, loop_, parts_.task)) {
        guarded<PyErr_WriteUnraisable>(parts_.task.get());
    }
    if (Ref outer = std::move(parts_.outer)) {
        if (!call(tools_.enter_task, loop_, outer)) guarded<PyErr_WriteUnraisable>(outer.get());
    }
    if (!is_stepping_ && as_driver(parts_.driver)->seen_task) give_away(Ref(), Ref());  // seen between two coroutines
}

SpareTask::Parts SpareTask::give_away(Ref coroutine, Ref first_yield) {
    if (is_entered_) leave();
    is_stepping_ = false;
    Parts own = std::exchange(parts_, Parts());
    as_driver(own.driver)->coroutine = coroutine.release();
    as_driver(own.driver)->first_yield = first_yield.release();
    reveal(own);
    wake(own);
    return own;
}

void SpareTask::end_with(Ref outcome, bool has_failed) {
    as_driver(parts_.driver)->outcome = outcome.release();
    as_driver(parts_.driver)->has_failed = has_failed;
    if (has_failed) {
        Ref callback = get_attribute(parts_.driver.get(), "forget");
        if (!callback || !call_method(parts_.task.get(), "add_done_callback", "O", callback.get())) PyErr_Clear();
    }
    give_away(Ref(), Ref());
}

// --- lookups ---

bool SpareTask::mark_seen() {
    if (!is_entered_ || !is_probed_) return true;
    is_probed_ = false;
    Ref loop = Ref::borrow(loop_.get()), probe = Ref::borrow(probe_.get()), task = Ref::borrow(parts_.task.get());
    Ref keep = Ref::borrow(core_.self), tools = Ref::borrow(tools_object_.get());
    as_driver(parts_.driver)->seen_task = Py_NewRef(task.get());
    if (guarded<PyDict_DelItem>(tools_.current_tasks, probe.get()) != 0) PyErr_Clear();
    track(task.get());
    return guarded<PyDict_SetItem>(tools_.current_tasks, loop.get(), task.get()) == 0;
}

// --- garbage collection ---

// The collector does not track an unseen spare, so its referents are visited here, as long as only this object and
// what the spare waits for refer to it.
int SpareTask::traverse(visitproc visit, void *arg) {
    PyObject *task = parts_.task.get();
    if (!task || PyObject_GC_IsTracked(task)) {
        Py_VISIT(task);
    } else if (Py_REFCNT(task) == (as_driver(parts_.driver)->idle_future ? 2 : 1)) {
        if (int result = Py_TYPE(task)->tp_traverse(task, visit, arg)) return result;
    }
    return visit_all(visit, arg,
                     {loop_.get(), tools_object_.get(), parts_.driver.get(), parts_.context.get(),
                      parts_.pristine.get(), parts_.outer.get()});
}

void SpareTask::clear_idle_future() {
    if (!parts_.driver) return;
    track(parts_.task.get());
    Py_CLEAR(as_driver(parts_.driver)->idle_future);
}

}  // namespace uwserve
