// The spare Task of a server's coroutines: how it is made, made current, noticed when seen, and parked.
#include "py/coroutines/step.h"

namespace uwserve {

namespace {

PyObject *call(PyObject *function, const Ref &first, const Ref &second) {
    PyObject *stack[] = {nullptr, first.get(), second.get()};
    return guarded<PyObject_Vectorcall>(function, stack + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

// In the garbage collector's lists again, which traverse() has stood in for.
void track(PyObject *task) {
    if (!PyObject_GC_IsTracked(task)) PyObject_GC_Track(task);
}

}  // namespace

// A Task in a context of its own, which is a copy of `base`.
Ref Coroutines::make_task(Driver *driver, PyObject *base, Ref *context, Ref *pristine) {
    Ref copy = Ref::steal(guarded<PyContext_Copy>(base));
    if (!copy || PyContext_Enter(copy.get()) != 0) return Ref();
    driver->is_new = true;
    Ref task = Ref::steal(guarded<PyObject_CallFunctionObjArgs>(tools_.make_task, reinterpret_cast<PyObject *>(driver),
                                                                loop_.get(), nullptr));
    driver->is_new = false;
    {
        SavedError error;
        if (PyContext_Exit(copy.get()) != 0) guarded<PyErr_WriteUnraisable>(copy.get());
    }
    if (!task) return task;
    Ref own = Ref::borrow(context_of(task.get()));
    if (!own) own = Ref::steal(guarded<PyObject_GetAttrString>(task.get(), "_context"));  // a Task of pure Python
    if (!own || !PyContext_CheckExact(own.get())) {
        PyErr_SetString(PyExc_RuntimeError, "this asyncio's Task does not show its context");
        return Ref();
    }
    *context = std::move(own);
    *pristine = std::move(copy);
    return task;
}

// Known to its loop, and hidden from all other code if that is requested and possible.
bool Coroutines::make_spare(PyObject *base, bool is_hidden) {
    Spare fresh;
    fresh.driver = Ref::steal(reinterpret_cast<PyObject *>(new_driver(core_)));
    fresh.task = fresh.driver ? make_task(as_driver(fresh.driver), base, &fresh.context, &fresh.pristine) : Ref();
    if (!fresh.task) return false;
    fresh.variables = core_.contexts.variables(fresh.context.get());
    if (is_hidden && fresh.variables) {
        Ref hidden = Ref::steal(guarded<PyObject_CallOneArg>(tools_.hide, fresh.task.get()));
        if (!hidden) return false;
        fresh.is_hidden = true;
        PyObject_GC_UnTrack(fresh.task.get());
    }
    wake(std::exchange(spare_, std::move(fresh)));
    return true;
}

// The Task belongs to a call, or is visible, from now on.
void Coroutines::reveal(Spare &spare) {
    if (!std::exchange(spare.is_hidden, false)) return;
    track(spare.task.get());
    SavedError error;
    Ref done = Ref::steal(guarded<PyObject_CallOneArg>(tools_.reveal, spare.task.get()));
    if (!done) guarded<PyErr_WriteUnraisable>(spare.task.get());
}

PyObject *Coroutines::park(Driver *driver) {
    auto is_wanted = [&] {
        return spare_.driver.get() == reinterpret_cast<PyObject *>(driver) && spare_.is_hidden && !entered_ &&
               !driver->kept;
    };
    if (!is_wanted()) return nullptr;
    if (!driver->parking) {
        Changing changing(is_changing_);
        Ref parking = Ref::steal(guarded<PyObject_CallOneArg>(tools_.new_parking, loop_.get()));
        if (!parking) guarded<PyErr_WriteUnraisable>(spare_.task.get());
        if (!parking || !is_wanted()) return nullptr;
        Py_XSETREF(driver->parking, parking.release());
    }
    return Py_NewRef(driver->parking);
}

// It is no spare any more. A parked Task takes its next step in the loop's next turn: with a coroutine, or to end.
void Coroutines::wake(const Spare &spare) {
    if (!spare.task) return;
    track(spare.task.get());
    if (!as_driver(spare.driver)->parking) return;
    SavedError error;
    Changing changing(is_changing_);
    Ref parking = Ref::steal(std::exchange(as_driver(spare.driver)->parking, nullptr));
    for (int i = 0; i < 2; i++) {
        Ref woken = Ref::steal(guarded<PyObject_CallMethod>(parking.get(), "wake", nullptr));
        if (woken) return;
        if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
            PyErr_Clear();  // the loop is closed, and with it all its Tasks
            return;
        }
        core_.log_failure(Origin::kTask);  // a KeyboardInterrupt, say: it ends the run, but not before the Task goes on
    }
}

// A factory must make every Task. It may be set at any time, so each pump asks for it.
bool Coroutines::has_task_factory() {
    Ref factory = Ref::steal(guarded<PyObject_CallMethod>(loop_.get(), "get_task_factory", nullptr));
    if (!factory) PyErr_Clear();
    return factory && factory.get() != Py_None;
}

// False with an exception set. `context`: NULL for the base's, else a Task is made for it that serves once.
bool Coroutines::enter(PyObject *context) {
    Changing changing(is_changing_);
    leave_if_idle();  // its Task was seen while no coroutine used it, so it cannot serve any more
    bool is_shared = probe_ && !context && !has_task_factory();
    if (!spare_.task || !is_shared || !spare_.is_hidden || as_driver(spare_.driver)->expired ||
        as_driver(spare_.driver)->kept || variables() != spare_.variables) {
        if (!make_spare(context ? context : core_.contexts.base(), is_shared)) return false;
    }
    Ref outer = probe_ ? Ref::borrow(guarded<PyDict_GetItemWithError>(tools_.current_tasks, loop_.get()))
                       : Ref::steal(guarded<PyObject_CallOneArg>(tools_.current_task, loop_.get()));
    if (!outer && PyErr_Occurred()) return false;
    if (outer && outer.get() != Py_None) {
        Ref left = Ref::steal(call(tools_.leave_task, loop_, outer));
        if (!left) return false;
        spare_.outer = std::move(outer);
    }
    entered_ = true;
    bool is_in = spare_.is_hidden                                          ? enter_probe()
                 : Ref::steal(call(tools_.enter_task, loop_, spare_.task)) ? true
                                                                           : false;
    if (!is_in || PyContext_Enter(spare_.context.get()) != 0) {
        SavedError error;
        leave();
        return false;
    }
    // One that is not hidden can be seen by anybody, at any time, so that it is this coroutine's in any case.
    spare_.references = spare_.is_hidden ? Py_REFCNT(spare_.task.get()) : -1;
    spare_.context_references = Py_REFCNT(spare_.context.get());
    return true;
}

bool Coroutines::enter_probe() {
    if (guarded<PyDict_SetItem>(tools_.current_tasks, probe_.get(), Py_None) != 0) return false;
    is_probed_ = true;
    return true;
}

bool Coroutines::look() {
    if (!entered_ || !is_probed_) return true;
    is_probed_ = false;
    Ref loop = Ref::borrow(loop_.get()), probe = Ref::borrow(probe_.get()), task = Ref::borrow(spare_.task.get());
    Ref keep = Ref::borrow(core_.self), tools = Ref::borrow(tools_object_.get());
    as_driver(spare_.driver)->kept = Py_NewRef(task.get());
    if (guarded<PyDict_DelItem>(tools_.current_tasks, probe.get()) != 0) PyErr_Clear();
    track(task.get());
    return guarded<PyDict_SetItem>(tools_.current_tasks, loop.get(), task.get()) == 0;
}

void Coroutines::leave() {
    SavedError error;
    Changing changing(is_changing_);
    entered_ = false;
    if (PyContext_Exit(spare_.context.get()) != 0) guarded<PyErr_WriteUnraisable>(spare_.task.get());
    if (std::exchange(is_probed_, false)) {
        if (guarded<PyDict_DelItem>(tools_.current_tasks, probe_.get()) != 0) PyErr_Clear();  // it was emptied
    } else {
        Ref left = Ref::steal(call(tools_.leave_task, loop_, spare_.task));
        if (!left) guarded<PyErr_WriteUnraisable>(spare_.task.get());
    }
    if (Ref outer = std::move(spare_.outer)) {
        Ref back = Ref::steal(call(tools_.enter_task, loop_, outer));
        if (!back) guarded<PyErr_WriteUnraisable>(outer.get());
    }
    if (!busy_ && as_driver(spare_.driver)->kept) {  // seen between two coroutines: it ends
        Spare seen = std::exchange(spare_, Spare());
        reveal(seen);
        wake(seen);
    }
}

// The collector does not track an unseen spare, so its referents are visited here: as long as only we
// refer to it, and what it is parked with.
int Coroutines::traverse_spare(visitproc visit, void *arg) {
    PyObject *task = spare_.task.get();
    if (!task || PyObject_GC_IsTracked(task)) {
        Py_VISIT(task);
        return 0;
    }
    bool is_ours = Py_REFCNT(task) == (as_driver(spare_.driver)->parking ? 2 : 1);
    return is_ours ? Py_TYPE(task)->tp_traverse(task, visit, arg) : 0;
}

void Coroutines::clear() {
    if (entered_) return;
    if (spare_.driver) {
        track(spare_.task.get());
        Py_CLEAR(as_driver(spare_.driver)->parking);  // not woken: this may be any thread
    }
    forget_loop();
}

}  // namespace uwserve
