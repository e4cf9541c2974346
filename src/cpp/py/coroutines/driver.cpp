// The driver: the coroutine that a handler's Task was made with. Before the user's coroutine comes it is an empty shell,
// whose first step parks the Task, or ends it; afterwards it passes everything on.
//
// One thing needs thought: between the eager step and the Task's own first step, what the coroutine has yielded is not
// yet waited for. A cancellation in between must do what it would have done to a Task that waits: cancel the future.
#include "py/websocket/object.h"

#include <structmember.h>

namespace uwserve {

namespace {

Driver *as_driver(PyObject *object) { return reinterpret_cast<Driver *>(object); }

int driver_traverse(PyObject *object, visitproc visit, void *arg) {
    Driver *self = as_driver(object);
    Py_VISIT(Py_TYPE(object));
    for (PyObject *part : {self->core_object, self->coroutine, self->first, self->parking, self->ws, self->request,
                           self->kept, self->outcome}) {
        Py_VISIT(part);
    }
    return 0;
}

void end_running(Driver *self) {
    if (self->running.kind != RunningHandler::Kind::kNone)
        self->core->running_handlers.ended(self->running, as_ws(self->ws));
}

// core_object stays: a method of a cleared driver must still find a core.
int driver_clear(PyObject *object) {
    Driver *self = as_driver(object);
    end_running(self);
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->first);
    Py_CLEAR(self->parking);
    Py_CLEAR(self->ws);
    Py_CLEAR(self->request);
    Py_CLEAR(self->kept);
    Py_CLEAR(self->outcome);
    return 0;
}

void driver_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    driver_clear(object);
    Py_CLEAR(as_driver(object)->core_object);
    type->tp_free(object);
    Py_DECREF(type);
}

// A step of the shell: the Task ends as its eager step has ended, or with None when it is not needed.
PySendResult expire(Driver *self, PyObject **out) {
    self->expired = true;
    Ref kept = Ref::steal(std::exchange(self->kept, nullptr));
    Ref outcome = Ref::steal(std::exchange(self->outcome, nullptr));
    if (self->has_failed && outcome) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(outcome.get())), outcome.get());
        *out = nullptr;
        return PYGEN_ERROR;
    }
    *out = outcome ? outcome.release() : Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

// While a step of it runs, the request whose coroutine this is is the one that is answered.
class ItsRequest {
  public:
    explicit ItsRequest(Driver *driver) : core_(Ref::borrow(driver->core_object)), contexts_(driver->core->contexts) {
        saved_ = contexts_.request();
        contexts_.set_request(reinterpret_cast<RequestObject *>(driver->request));
    }
    ~ItsRequest() { contexts_.set_request(saved_); }
    ItsRequest(const ItsRequest &) = delete;
    ItsRequest &operator=(const ItsRequest &) = delete;

  private:
    Ref core_;
    Contexts &contexts_;
    RequestObject *saved_;
};

PySendResult driver_send(PyObject *object, PyObject *argument, PyObject **out) {
    Driver *self = as_driver(object);
    *out = nullptr;
    if (self->is_new) {  // an eager factory: it runs when it is known
        *out = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    if (!self->coroutine) {
        *out = self->core->coroutines.park(self);
        return *out ? PYGEN_NEXT : expire(self, out);
    }
    if (self->first) {
        Ref first = Ref::steal(std::exchange(self->first, nullptr));
        if (first.get() != Py_None) {
            *out = first.release();
            return PYGEN_NEXT;
        }
        // It asked for one turn of the loop, and this is the next.
    }
    Ref coroutine = Ref::borrow(self->coroutine);
    ItsRequest request(self);
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
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("asyncio"));
    Ref type = module ? Ref::steal(guarded<PyObject_GetAttrString>(module.get(), "CancelledError")) : Ref();
    if (!type) return -1;
    if (!PyErr_GivenExceptionMatches(exception, type.get())) return 0;
    Ref first = Ref::borrow(self->first);
    if (!guarded<PyObject_HasAttrString>(first.get(), "cancel")) return 0;
    Ref arguments = Ref::steal(guarded<PyObject_GetAttrString>(exception, "args"));
    bool has_message = arguments && PyTuple_Check(arguments.get()) && PyTuple_GET_SIZE(arguments.get()) > 0;
    PyErr_Clear();
    Ref result = Ref::steal(
        has_message ? guarded<PyObject_CallMethod>(first.get(), "cancel", "O", PyTuple_GET_ITEM(arguments.get(), 0))
                    : guarded<PyObject_CallMethod>(first.get(), "cancel", nullptr));
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
        self->expired = true;
        Ref kept = Ref::steal(std::exchange(self->kept, nullptr));
        Ref outcome = Ref::steal(std::exchange(self->outcome, nullptr));
        PyObject *type = PyExceptionInstance_Check(args[0]) ? reinterpret_cast<PyObject *>(Py_TYPE(args[0])) : args[0];
        PyErr_SetObject(type, PyExceptionInstance_Check(args[0]) ? args[0] : count > 1 ? args[1] : nullptr);
        return nullptr;
    }
    if (self->first) {
        int taken = self->first == Py_None ? 0 : cancel_first(self, args[0]);
        if (taken < 0) return nullptr;
        Ref first = Ref::steal(std::exchange(self->first, nullptr));
        if (taken) return first.release();
    }
    Ref coroutine = Ref::borrow(self->coroutine);
    ItsRequest request(self);
    Ref method = Ref::steal(guarded<PyObject_GetAttrString>(coroutine.get(), "throw"));
    PyObject *result =
        method ? guarded<PyObject_Vectorcall>(method.get(), args, static_cast<size_t>(count), nullptr) : nullptr;
    if (!result) Py_CLEAR(self->coroutine);
    return result;
}

PyObject *close(PyObject *object, PyObject *) {
    Driver *self = as_driver(object);
    Ref coroutine = Ref::steal(std::exchange(self->coroutine, nullptr));
    Ref first = Ref::steal(std::exchange(self->first, nullptr));
    return coroutine ? guarded<PyObject_CallMethod>(coroutine.get(), "close", nullptr) : Py_NewRef(Py_None);
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
    if (!self->core->on_loop_thread()) {
        self->core->refuse_thread("HandlerCoroutine.ended");
        return nullptr;
    }
    end_running(self);
    Ref keep = Ref::borrow(object), handle = Ref::steal(std::exchange(self->ws, nullptr));
    Ref request = Ref::steal(std::exchange(self->request, nullptr));
    self->core->coroutines.task_ended(task);
    Ref is_cancelled = Ref::steal(guarded<PyObject_CallMethod>(task, "cancelled", nullptr));
    if (!is_cancelled) return nullptr;
    Ref error;
    if (is_cancelled.get() != Py_True) {
        error = Ref::steal(guarded<PyObject_CallMethod>(task, "exception", nullptr));
        if (!error) return nullptr;
        // What ends a run has gone through the loop already.
        if (error.get() == Py_None || ends_run(error.get())) Py_RETURN_NONE;
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
        coroutine_failed(*self->core, as_ws(handle.get()), self->origin);
    } else if (self->origin == Origin::kOpen && handle && as_ws(handle.get())->ws) {
        self->core->close_handle(as_ws(handle.get()), 1011, {});
    }
    Py_RETURN_NONE;
}

// The done callback of one whose exception was dealt with in the eager step: asyncio must not warn that it was never retrieved.
PyObject *forget(PyObject *, PyObject *task) {
    Ref is_cancelled = Ref::steal(guarded<PyObject_CallMethod>(task, "cancelled", nullptr));
    if (!is_cancelled) return nullptr;
    return is_cancelled.get() == Py_True ? Py_NewRef(Py_None)
                                         : guarded<PyObject_CallMethod>(task, "exception", nullptr);
}

// For tracebacks and names of Tasks: the user's coroutine is what they are about.
PyObject *get_attribute(PyObject *object, PyObject *name) {
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
    PyTypeObject *type = core.state->driver_type;
    Driver *self = as_driver(new_object(type));
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
        {Py_tp_getattro, raw_slot<get_attribute>()},
        {Py_am_send, raw_slot<driver_send>()},
        {Py_am_await, raw_slot<await>()},
        {Py_tp_methods, kMethods},
        {Py_tp_members, kMembers},
        {0, nullptr},
    };
    PyType_Spec spec = {"uwserve._core.HandlerCoroutine", sizeof(Driver), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    state->driver_type = reinterpret_cast<PyTypeObject *>(type);
    return type != nullptr;
}

}  // namespace uwserve
