// Messages is the iterator; while it lives and is not closed, the socket's messages wait for it. It refers to the handle,
// the handle's queue to it without a reference: letting go of it, as `break` does, gives the messages back. What its
// __anext__ returns is a MessageWait: it takes a message if there is one, and else waits for a future of the running event
// loop, which only says that it is worth looking again. So nothing is lost when the waiting task is cancelled.
//
// One at a time may wait. A MessageWait claims the iterator (`waiting`) before it runs any Python, and gives it back when it
// ends, however it does; every other is refused, also one that was made before the claim, and a second task that awaits the
// same MessageWait. A refusal changes nothing for the one that waits. A claim whose event loop has been closed is void.
//
// It may be iterated in any thread's event loop; all of it is guarded by the GIL.
#include "py/websocket/messages.h"

#include <cstring>

#include "py/websocket/queue.h"
#include "docstrings.h"

namespace uwserve {

struct MessagesObject {
    PyObject_HEAD WsObject *ws;
    PyObject *waiting;  // borrowed: the MessageWait that has the claim, which takes itself away
    PyObject *future;  // what it waits for; NULL once that is done, or about to be
    unsigned long thread;  // of the future's event loop
    bool is_active;
};

namespace {

struct MessageWaitObject {
    PyObject_HEAD MessagesObject *messages;
    PyObject *future, *future_iterator;  // NULL: not waiting
    bool closes;  // of aclose()
    bool is_starting;  // its future is being made
};

MessagesObject *as_messages(PyObject *object) { return reinterpret_cast<MessagesObject *>(object); }
MessageWaitObject *as_wait(PyObject *object) { return reinterpret_cast<MessageWaitObject *>(object); }
PyObject *object(MessagesObject *self) { return reinterpret_cast<PyObject *>(self); }

// The socket's messages are its own again.
void release(MessagesObject *self) {
    if (!self->is_active) return;
    self->is_active = false;
    WsObject *ws = self->ws;
    ws->queue->iterator = nullptr;
    SavedError error;
    if (ws->queue->events.is_empty() && !ws->queue->pause.is_on) return;
    if (ws->core->is_forked) return;
    deliver_soon(ws);
}

// --- waiting ---

// future.set_result(None), unless it was cancelled.
PyObject *resolve(PyObject *, PyObject *future) {
    Ref done = Ref::steal(guarded<PyObject_CallMethod>(future, "done", nullptr));
    if (!done) return nullptr;
    if (done.get() == Py_True) Py_RETURN_NONE;
    return guarded<PyObject_CallMethod>(future, "set_result", "O", Py_None);
}

PyMethodDef kResolve = {"resolve", raw_call<resolve>, METH_O, nullptr};

bool has_claim(MessageWaitObject *self) { return self->messages->waiting == reinterpret_cast<PyObject *>(self); }

// The claim stays.
void drop_future(MessageWaitObject *self) {
    Ref iterator = Ref::steal(std::exchange(self->future_iterator, nullptr));
    Ref own = Ref::steal(std::exchange(self->future, nullptr));
    if (own && self->messages->future == own.get()) Ref::steal(std::exchange(self->messages->future, nullptr));
}

void stop_waiting(MessageWaitObject *self) {
    if (has_claim(self)) self->messages->waiting = nullptr;
    drop_future(self);
}

// False with an exception set: no event loop runs here.
bool start_waiting(MessageWaitObject *self) {
    MessagesObject *messages = self->messages;
    self->is_starting = true;
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("asyncio.events"));
    Ref loop = module ? Ref::steal(guarded<PyObject_CallMethod>(module.get(), "get_running_loop", nullptr)) : Ref();
    Ref future = loop ? Ref::steal(guarded<PyObject_CallMethod>(loop.get(), "create_future", nullptr)) : Ref();
    PyObject *iterator = future ? guarded<PyObject_GetIter>(future.get()) : nullptr;
    self->is_starting = false;
    if (!iterator) return false;
    self->future_iterator = iterator;
    self->future = Py_NewRef(future.get());
    if (has_claim(self)) {  // unless close() was called meanwhile
        messages->future = future.release();
        messages->thread = PyThread_get_thread_ident();
    }
    return true;
}

PyObject *refuse_second() {
    PyErr_SetString(PyExc_RuntimeError, "ServerWebSocket.messages(): another task waits for the next message already");
    return nullptr;
}

bool is_true(PyObject *object, const char *method) {
    Ref answer = Ref::steal(guarded<PyObject_CallMethod>(object, method, nullptr));
    if (!answer) PyErr_Clear();
    return answer && answer.get() == Py_True;
}

// Whether another one than `self` waits. One whose event loop is closed will never go on.
bool is_taken(MessagesObject *messages, MessageWaitObject *self) {
    auto *other = reinterpret_cast<MessageWaitObject *>(messages->waiting);
    if (!other || other == self) return false;
    Ref keep = Ref::borrow(messages->waiting), future = Ref::borrow(other->future);
    Ref loop = future ? Ref::steal(guarded<PyObject_CallMethod>(future.get(), "get_loop", nullptr)) : Ref();
    if (!loop) PyErr_Clear();
    if (!loop || !is_true(loop.get(), "is_closed")) return true;
    if (messages->waiting == keep.get()) stop_waiting(other);
    return messages->waiting != nullptr;
}

// With the claim.
PySendResult wait_on(MessageWaitObject *self, PyObject *argument, PyObject **result) {
    MessagesObject *messages = self->messages;
    for (;;) {
        if (self->future_iterator) {
            Ref iterator = Ref::borrow(self->future_iterator);
            PySendResult sent = guarded<PyIter_Send>(iterator.get(), argument, result);
            if (sent == PYGEN_NEXT) return sent;
            Ref ended = Ref::steal(std::exchange(*result, nullptr));
            if (sent == PYGEN_ERROR) return sent;
            drop_future(self);
        }
        if (messages->is_active) {
            if (Ref message = take_message(messages->ws)) {
                *result = message.release();
                return PYGEN_RETURN;
            }
        }
        if (!messages->is_active || !messages->ws->ws) {
            release(messages);
            PyErr_SetNone(PyExc_StopAsyncIteration);
            return PYGEN_ERROR;
        }
        if (!start_waiting(self)) return PYGEN_ERROR;
        // Making the future has run Python, and another thread with it: a message may have come and found no waiter.
        if (!messages->is_active || !messages->ws->ws || messages->ws->queue->events.has_message()) drop_future(self);
    }
}

PySendResult wait_send(PyObject *object_, PyObject *argument, PyObject **result) {
    MessageWaitObject *self = as_wait(object_);
    MessagesObject *messages = self->messages;
    *result = nullptr;
    // A task that waits is stepped when its future is done, or by throw(): with a future that is not, this is another.
    bool is_second = self->is_starting || is_taken(messages, self) || (self->future && !is_true(self->future, "done"));
    if (is_second) {
        refuse_second();
        return PYGEN_ERROR;
    }
    if (self->closes) {
        release(messages);
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    messages->waiting = object_;
    PySendResult sent = wait_on(self, argument, result);
    if (sent != PYGEN_NEXT) {
        SavedError error;
        stop_waiting(self);
    }
    return sent;
}

PyObject *wait_next(PyObject *object_) {
    PyObject *result;
    PySendResult sent = wait_send(object_, Py_None, &result);
    if (sent == PYGEN_RETURN) {
        if (result != Py_None) PyErr_SetObject(PyExc_StopIteration, result);  // str, bytes or bytearray
        Py_DECREF(result);
        return nullptr;
    }
    return result;
}

PyObject *wait_send_method(PyObject *object_, PyObject *argument) {
    PyObject *result;
    PySendResult sent = wait_send(object_, argument, &result);
    if (sent == PYGEN_RETURN) {
        PyErr_SetObject(PyExc_StopIteration, result);
        Py_DECREF(result);
        return nullptr;
    }
    return result;
}

// throw(exception), or throw(type, value, traceback) as it was before.
PyObject *wait_throw(PyObject *object_, PyObject *args) {
    PyObject *type, *value = Py_None, *traceback = Py_None;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback)) return nullptr;
    stop_waiting(as_wait(object_));
    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(type)), type);
    } else if (PyExceptionClass_Check(type)) {
        PyErr_SetObject(type, value);
    } else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return nullptr;
}

PyObject *wait_close(PyObject *object_, PyObject *) {
    stop_waiting(as_wait(object_));
    Py_RETURN_NONE;
}

int wait_traverse(PyObject *object_, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object_));
    Py_VISIT(reinterpret_cast<PyObject *>(as_wait(object_)->messages));
    Py_VISIT(as_wait(object_)->future);
    Py_VISIT(as_wait(object_)->future_iterator);
    return 0;
}

int wait_clear(PyObject *object_) {
    stop_waiting(as_wait(object_));
    return 0;
}

void wait_dealloc(PyObject *object_) {
    PyTypeObject *type = Py_TYPE(object_);
    PyObject_GC_UnTrack(object_);
    stop_waiting(as_wait(object_));
    Py_DECREF(object(as_wait(object_)->messages));
    type->tp_free(object_);
    Py_DECREF(type);
}

PyObject *new_wait(PyObject *messages, bool closes) {
    PyTypeObject *type = as_messages(messages)->ws->core->state->messages_wait_type;
    PyObject *wait = new_object(type);
    if (!wait) return nullptr;
    as_wait(wait)->messages = as_messages(Py_NewRef(messages));
    as_wait(wait)->closes = closes;
    return wait;
}

// --- the iterator ---

// Never refuses: that is for the await, as with an asynchronous generator. (anext() with a default, in CPython up to 3.13,
// does not expect it to, and crashes.)
PyObject *messages_next(PyObject *self) { return new_wait(self, false); }

PyObject *messages_aclose(PyObject *self, PyObject *) { return new_wait(self, true); }

int messages_traverse(PyObject *object_, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object_));
    Py_VISIT(reinterpret_cast<PyObject *>(as_messages(object_)->ws));
    Py_VISIT(as_messages(object_)->future);
    return 0;
}

int messages_clear(PyObject *object_) {
    Py_CLEAR(as_messages(object_)->future);
    return 0;
}

void messages_dealloc(PyObject *object_) {
    MessagesObject *self = as_messages(object_);
    PyTypeObject *type = Py_TYPE(object_);
    PyObject_GC_UnTrack(object_);
    release(self);
    Py_CLEAR(self->future);
    Py_DECREF(reinterpret_cast<PyObject *>(self->ws));
    type->tp_free(object_);
    Py_DECREF(type);
}

PyObject *messages(PyObject *object_, PyObject *) {
    WsObject *self = as_ws(object_);
    if (!self->core->check_alive("ServerWebSocket.messages")) return nullptr;
    WsQueue *queue = queue_of(self);
    if (!queue) return nullptr;
    PyTypeObject *type = self->core->state->messages_type;
    Ref result = Ref::steal(new_object(type));  // may run a finaliser
    if (!result) return nullptr;
    as_messages(result.get())->ws = as_ws(Py_NewRef(object_));
    if (queue->iterator) {
        PyErr_SetString(PyExc_RuntimeError,
                        "ServerWebSocket.messages(): the messages of this socket are being iterated already");
        return nullptr;
    }
    as_messages(result.get())->is_active = true;
    queue->iterator = as_messages(result.get());
    if (queue->events.has_others()) deliver_soon(self);
    return result.release();
}

bool add_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots, bool is_private,
              PyTypeObject **type) {
    PyType_Spec spec = {name, static_cast<int>(size), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    *type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return *type && (is_private ||
                     PyModule_AddObjectRef(module, strrchr(name, '.') + 1, reinterpret_cast<PyObject *>(*type)) == 0);
}

}  // namespace

void wake_iterator(ServerCore &core, MessagesObject *iterator) {
    if (!iterator->future) return;
    core.coroutines.needs_turn();
    Ref keep = Ref::borrow(object(iterator));
    Ref future = Ref::steal(std::exchange(iterator->future, nullptr));
    Ref result;
    if (iterator->thread == PyThread_get_thread_ident()) {
        result = Ref::steal(resolve(nullptr, future.get()));
    } else {
        Ref loop = Ref::steal(guarded<PyObject_CallMethod>(future.get(), "get_loop", nullptr));
        Ref function = loop ? Ref::steal(PyCFunction_New(&kResolve, nullptr)) : Ref();
        if (function) {
            result = Ref::steal(
                guarded<PyObject_CallMethod>(loop.get(), "call_soon_threadsafe", "OO", function.get(), future.get()));
        }
    }
    if (result) return;
    if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear();  // that event loop is closed: nothing waits any more
    } else {
        core.log_failure(Origin::kMessagesIterator);
    }
}

bool add_messages_types(PyObject *module, ModuleState *state) {
    static PyMethodDef messages_methods[] = {
        {"aclose", raw_call<messages_aclose>, METH_NOARGS, docs::kMessages_aclose},
        {nullptr, nullptr, 0, nullptr},
    };
    static PyMethodDef wait_methods[] = {
        {"send", raw_call<wait_send_method>, METH_O, nullptr},
        {"throw", raw_call<wait_throw>, METH_VARARGS, nullptr},
        {"close", raw_call<wait_close>, METH_NOARGS, nullptr},
        {nullptr, nullptr, 0, nullptr},
    };
    PyType_Slot messages_slots[] = {
        {Py_tp_doc, const_cast<char *>(docs::kMessages)},
        {Py_tp_traverse, raw_slot<messages_traverse>()},
        {Py_tp_clear, raw_slot<messages_clear>()},
        {Py_tp_dealloc, raw_slot<messages_dealloc>()},
        {Py_am_aiter, reinterpret_cast<void *>(PyObject_SelfIter)},
        {Py_am_anext, raw_slot<messages_next>()},
        {Py_tp_methods, messages_methods},
        {0, nullptr},
    };
    PyType_Slot wait_slots[] = {
        {Py_tp_traverse, raw_slot<wait_traverse>()},
        {Py_tp_clear, raw_slot<wait_clear>()},
        {Py_tp_dealloc, raw_slot<wait_dealloc>()},
        {Py_am_await, reinterpret_cast<void *>(PyObject_SelfIter)},
        {Py_am_send, raw_slot<wait_send>()},
        {Py_tp_iter, reinterpret_cast<void *>(PyObject_SelfIter)},
        {Py_tp_iternext, raw_slot<wait_next>()},
        {Py_tp_methods, wait_methods},
        {0, nullptr},
    };
    return add_type(module, "uwserve._core.Messages", sizeof(MessagesObject), messages_slots, false,
                    &state->messages_type) &&
           add_type(module, "uwserve._core.MessageWait", sizeof(MessageWaitObject), wait_slots, true,
                    &state->messages_wait_type);
}

PyMethodDef kMessagesMethods[] = {
    {"messages", raw_call<messages>, METH_NOARGS, docs::kServerWebSocket_messages},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
