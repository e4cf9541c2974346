// Before the user's coroutine comes, the driver is an empty shell: its first step waits for a coroutine, or ends the
// Task.
//
// One interval needs care: between the coroutine's first step and the Task's own first step, nothing waits yet for what
// the coroutine has yielded. A cancellation in between must do what it would do to a Task that waits: cancel the
// future.
#include "py/coroutines/driver.h"

#include <structmember.h>

#include "py/coroutines/first_step.h"
#include "py/interpreter/types.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

Driver *as_driver(PyObject *object) { return reinterpret_cast<Driver *>(object); }

int driver_traverse(PyObject *object, visitproc visit, void *arg) {
    Driver *self = as_driver(object);
    return visit_all(visit, arg,
                     {as_object(Py_TYPE(object)), self->core_object, self->coroutine, self->first_yield,
                      self->idle_future, self->ws, self->request, self->seen_task, self->outcome});
}

void end_running(Driver *self) {
    if (self->running.kind != RunningHandler::Kind::kNone)
        self->core->running_handlers.ended(self->running, as_ws(self->ws));
}

// core_object stays: a method of a cleared driver must still find a core.
int driver_clear(PyObject *object) {
    Driver *self = as_driver(object);
    end_running(self);
    clear_all({&self->coroutine, &self->first_yield, &self->idle_future, &self->ws, &self->request, &self->seen_task,
               &self->outcome});
    return 0;
}

void driver_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    driver_clear(object);
    Py_CLEAR(as_driver(object)->core_object);
    free_instance(object);
}

// What the Task would have ended with is given up. The result is the outcome.
Ref expire(Driver *self) {
    self->expired = true;
    Ref task = Ref::steal(std::exchange(self->seen_task, nullptr));
    return Ref::steal(std::exchange(self->outcome, nullptr));
}

// A step of the shell: the Task ends as the coroutine's first step has ended, or with None if no coroutine came.
PySendResult end_shell(Driver *self, PyObject **out) {
    Ref outcome = expire(self);
    if (self->has_failed && outcome) {
        raise_again(outcome.get());
        *out = nullptr;
        return PYGEN_ERROR;
    }
    *out = outcome ? outcome.release() : Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

// Around a step of the coroutine: the request that is answered in it.
class CurrentRequest {
  public:
    explicit CurrentRequest(Driver *driver)
        : core_(Ref::borrow(driver->core_object)), contexts_(driver->core->contexts), saved_(contexts_.request()) {
        contexts_.set_request(reinterpret_cast<RequestObject *>(driver->request));
    }
    ~CurrentRequest() { contexts_.set_request(saved_); }

  private:
    Ref core_;
    Contexts &contexts_;
    RequestObject *saved_;
};

PySendResult driver_send(PyObject *object, PyObject *argument, PyObject **out) {
    Driver *self = as_driver(object);
    *out = nullptr;
    if (self->is_new) {  // an eager factory: the Task runs when it is known
        *out = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    if (!self->coroutine) {
        *out = self->core->coroutines.spare.idle_future_of(self);
        return *out ? PYGEN_NEXT : end_shell(self, out);
    }
    if (self->first_yield) {
        Ref first = Ref::steal(std::exchange(self->first_yield, nullptr));
        if (first.get() != Py_None) {
            *out = first.release();
            return PYGEN_NEXT;
        }
        // None asks for one turn of the loop, and this is the next.
    }
    Ref coroutine = Ref::borrow(self->coroutine);
    CurrentRequest request(self);
    PySendResult result = guarded<PyIter_Send>(coroutine.get(), argument, out);
    if (result != PYGEN_NEXT) Py_CLEAR(self->coroutine);
    return result;
}

// coroutine.send() as Python calls it.
PyObject *send(PyObject *object, PyObject *argument) {
    PyObject *out;
    switch (driver_send(object, argument, &out)) {
    case PYGEN_NEXT:
        return out;
    case PYGEN_RETURN: {
        Ref value = Ref::steal(out);
        Ref stop = Ref::steal(guarded<PyObject_CallOneArg>(PyExc_StopIteration, value.get()));
        if (stop) PyErr_SetObject(PyExc_StopIteration, stop.get());
        return nullptr;
    }
    default:
        return nullptr;
    }
}

// 1: the future that the Task was to wait for takes the cancellation. -1 with an exception set.
int cancel_first(Driver *self, PyObject *exception) {
    const int is_cancelled = is_cancelled_error(exception);
    if (is_cancelled <= 0) return is_cancelled;
    Ref first = Ref::borrow(self->first_yield);
    if (!guarded<PyObject_HasAttrString>(first.get(), "cancel")) return 0;
    Ref arguments = get_attribute(exception, "args");
    bool has_message = arguments && PyTuple_Check(arguments.get()) && PyTuple_GET_SIZE(arguments.get()) > 0;
    PyErr_Clear();
    Ref result = has_message ? call_method(first.get(), "cancel", "O", PyTuple_GET_ITEM(arguments.get(), 0))
                             : call_method(first.get(), "cancel");
    return result ? guarded<PyObject_IsTrue>(result.get()) : -1;
}

PyObject *throw_into(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Driver *self = as_driver(object);
    if (count < 1 || count > 3) {
        PyErr_Format(PyExc_TypeError, "throw() takes 1 to 3 arguments (%zd given)", count);
        return nullptr;
    }
    if (!PyExceptionInstance_Check(args[0]) && !PyExceptionClass_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %.200s",
                     Py_TYPE(args[0])->tp_name);
        return nullptr;
    }
    if (!self->coroutine) {
        Ref outcome = expire(self);
        if (PyExceptionInstance_Check(args[0])) {
            raise_again(args[0]);
        } else {
            PyErr_SetObject(args[0], count > 1 ? args[1] : nullptr);
        }
        return nullptr;
    }
    if (self->first_yield) {
        int taken = self->first_yield == Py_None ? 0 : cancel_first(self, args[0]);
        if (taken < 0) return nullptr;
        Ref first = Ref::steal(std::exchange(self->first_yield, nullptr));
        if (taken) return first.release();
    }
    Ref coroutine = Ref::borrow(self->coroutine);
    CurrentRequest request(self);
    Ref method = get_attribute(coroutine.get(), "throw");
    PyObject *result =
        method ? guarded<PyObject_Vectorcall>(method.get(), args, static_cast<size_t>(count), nullptr) : nullptr;
    if (!result) Py_CLEAR(self->coroutine);
    return result;
}

PyObject *close(PyObject *object, PyObject *) {
    Driver *self = as_driver(object);
    Ref coroutine = Ref::steal(std::exchange(self->coroutine, nullptr));
    Ref first = Ref::steal(std::exchange(self->first_yield, nullptr));
    return coroutine ? call_method(coroutine.get(), "close").release() : Py_NewRef(Py_None);
}

PyObject *await(PyObject *) {
    PyErr_SetString(PyExc_RuntimeError, "a handler's coroutine is awaited by its own Task");
    return nullptr;
}

// The done callback of a Task that has had a coroutine.
PyObject *ended(PyObject *object, PyObject *task) {
    Driver *self = as_driver(object);
    if (!self->is_started) {
        PyErr_SetString(PyExc_RuntimeError, "no Task of a handler's coroutine has ended: it has not suspended");
        return nullptr;
    }
    if (self->core->is_forked) Py_RETURN_NONE;
    if (!self->core->check_loop_thread("HandlerCoroutine.ended")) return nullptr;
    end_running(self);
    Ref keep = Ref::borrow(object), handle = Ref::steal(std::exchange(self->ws, nullptr));
    Ref request = Ref::steal(std::exchange(self->request, nullptr));
    self->core->coroutines.task_ended(task);
    Ref is_cancelled = call_method(task, "cancelled");
    if (!is_cancelled) return nullptr;
    if (is_cancelled.get() != Py_True) {
        Ref error = call_method(task, "exception");
        if (!error) return nullptr;
        // What ends a run has gone through the loop already.
        if (error.get() == Py_None || ends_run(error.get())) Py_RETURN_NONE;
        raise_again(error.get());
        coroutine_failed(*self->core, as_ws(handle.get()), self->origin);
    } else if (self->origin == Origin::kOpen && handle && as_ws(handle.get())->ws) {
        self->core->close_handle(as_ws(handle.get()), 1011, {});
    }
    Py_RETURN_NONE;
}

// The done callback of a Task whose coroutine failed in its first step, where the exception was dealt with: asyncio
// must not warn that it was never retrieved.
PyObject *forget(PyObject *, PyObject *task) {
    Ref is_cancelled = call_method(task, "cancelled");
    if (!is_cancelled) return nullptr;
    return is_cancelled.get() == Py_True ? Py_NewRef(Py_None) : call_method(task, "exception").release();
}

// Tracebacks and names of Tasks show the user's coroutine.
PyObject *read_attribute(PyObject *object, PyObject *name) {
    PyObject *own = PyObject_GenericGetAttr(object, name);
    PyObject *coroutine = as_driver(object)->coroutine;
    if (own || !coroutine || !PyErr_ExceptionMatches(PyExc_AttributeError)) return own;
    PyErr_Clear();
    return guarded<PyObject_GetAttr>(coroutine, name);
}

PyMemberDef kMembers[] = {
    {"server", T_OBJECT_EX, offsetof(Driver, core_object), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyMethodDef kMethods[] = {
    {"send", raw_call<send>, METH_O, nullptr},        {"throw", raw_fastcall<throw_into>(), METH_FASTCALL, nullptr},
    {"close", raw_call<close>, METH_NOARGS, nullptr}, {"ended", raw_call<ended>, METH_O, nullptr},
    {"forget", raw_call<forget>, METH_O, nullptr},    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

Driver *new_driver(ServerCore &core) {
    if (!core.check_hooked()) return nullptr;
    Driver *self = as_driver(new_object(core.state->driver_type));
    if (!self) return nullptr;
    self->core = &core;
    self->core_object = Py_NewRef(core.self);
    return self;
}

bool add_driver_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>("The coroutine of a Task that a handler's coroutine runs in.")},
        {Py_tp_traverse, raw_slot<driver_traverse>()},
        {Py_tp_clear, raw_slot<driver_clear>()},
        {Py_tp_dealloc, raw_slot<driver_dealloc>()},
        {Py_tp_getattro, raw_slot<read_attribute>()},
        {Py_am_send, raw_slot<driver_send>()},
        {Py_am_await, raw_slot<await>()},
        {Py_tp_methods, kMethods},
        {Py_tp_members, kMembers},
        {0, nullptr},
    };
    return make_type(module, "uwserve._core.HandlerCoroutine", sizeof(Driver), slots, &state->driver_type);
}

}  // namespace uwserve
