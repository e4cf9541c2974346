#include "py/websocket/messages.h"

#include "docstrings.h"
#include "py/interpreter/types.h"
#include "py/websocket/queue.h"

namespace uwserve {

struct MessagesObject {
    PyObject_HEAD WsObject *ws;
    PyObject *waiting;  // borrowed: the MessageWait that has the claim, and clears this
    PyObject *future;  // for which that waits; NULL once it is done, or about to be
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

// The socket's messages go to its handler again.
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
    Ref done = call_method(future, "done");
    return !done || done.get() == Py_True ? done.release() : call_method(future, "set_result", "O", Py_None).release();
}

PyMethodDef kResolve = {"resolve", raw_call<resolve>, METH_O, nullptr};

bool has_claim(MessageWaitObject *self) { return self->messages->waiting == as_object(self); }

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
    Ref loop = module ? call_method(module.get(), "get_running_loop") : Ref();
    Ref future = loop ? call_method(loop.get(), "create_future") : Ref();
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

// Whether another MessageWait than `self` waits. One whose event loop is closed will never go on.
bool is_taken(MessagesObject *messages, MessageWaitObject *self) {
    auto *other = reinterpret_cast<MessageWaitObject *>(messages->waiting);
    if (!other || other == self) return false;
    Ref keep = Ref::borrow(messages->waiting), future = Ref::borrow(other->future);
    Ref loop = future ? call_method(future.get(), "get_loop") : Ref();
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
        // Making the future has run Python, and maybe another thread: a message may have come and found no waiter.
        if (!messages->is_active || !messages->ws->ws || messages->ws->queue->events.has_message()) drop_future(self);
    }
}

PySendResult wait_send(PyObject *object, PyObject *argument, PyObject **result) {
    MessageWaitObject *self = as_wait(object);
    MessagesObject *messages = self->messages;
    *result = nullptr;
    // A task that waits is stepped when its future is done, or by throw(). If the future is not done, this is another
    // task.
    if (self->is_starting || is_taken(messages, self) || (self->future && !is_true(self->future, "done"))) {
        PyErr_SetString(PyExc_RuntimeError,
                        "ServerWebSocket.messages(): another task waits for the next message already");
        return PYGEN_ERROR;
    }
    if (self->closes) {
        release(messages);
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    messages->waiting = object;
    PySendResult sent = wait_on(self, argument, result);
    if (sent != PYGEN_NEXT) {
        SavedError error;
        stop_waiting(self);
    }
    return sent;
}

PyObject *wait_send_method(PyObject *object, PyObject *argument) {
    PyObject *result;
    if (wait_send(object, argument, &result) != PYGEN_RETURN) return result;
    PyErr_SetObject(PyExc_StopIteration, result);  // None, str, bytes or bytearray
    Py_DECREF(result);
    return nullptr;
}

PyObject *wait_next(PyObject *object) { return wait_send_method(object, Py_None); }

// throw(exception), or throw(type, value, traceback) as in older Python.
PyObject *wait_throw(PyObject *object, PyObject *args) {
    PyObject *type, *value = Py_None, *traceback = Py_None;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback)) return nullptr;
    stop_waiting(as_wait(object));
    if (PyExceptionInstance_Check(type)) {
        raise_again(type);
    } else if (PyExceptionClass_Check(type)) {
        PyErr_SetObject(type, value);
    } else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return nullptr;
}

PyObject *wait_close(PyObject *object, PyObject *) {
    stop_waiting(as_wait(object));
    Py_RETURN_NONE;
}

int wait_traverse(PyObject *object, visitproc visit, void *arg) {
    MessageWaitObject *self = as_wait(object);
    return visit_all(visit, arg,
                     {as_object(Py_TYPE(object)), as_object(self->messages), self->future, self->future_iterator});
}

int wait_clear(PyObject *object) {
    stop_waiting(as_wait(object));
    return 0;
}

void wait_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    stop_waiting(as_wait(object));
    Py_DECREF(as_object(as_wait(object)->messages));
    free_instance(object);
}

PyObject *new_wait(PyObject *messages, bool closes) {
    PyObject *wait = new_object(as_messages(messages)->ws->core->state->messages_wait_type);
    if (!wait) return nullptr;
    as_wait(wait)->messages = as_messages(Py_NewRef(messages));
    as_wait(wait)->closes = closes;
    return wait;
}

// --- the iterator ---

// Never refuses: the await does, as with an asynchronous generator. (anext() with a default, in CPython up to 3.13,
// crashes if __anext__ raises.)
PyObject *messages_next(PyObject *self) { return new_wait(self, false); }

PyObject *messages_aclose(PyObject *self, PyObject *) { return new_wait(self, true); }

int messages_traverse(PyObject *object, visitproc visit, void *arg) {
    MessagesObject *self = as_messages(object);
    return visit_all(visit, arg, {as_object(Py_TYPE(object)), as_object(self->ws), self->future});
}

int messages_clear(PyObject *object) {
    Py_CLEAR(as_messages(object)->future);
    return 0;
}

void messages_dealloc(PyObject *object) {
    MessagesObject *self = as_messages(object);
    PyObject_GC_UnTrack(object);
    release(self);
    Py_CLEAR(self->future);
    Py_DECREF(as_object(self->ws));
    free_instance(object);
}

PyObject *messages(PyObject *object, PyObject *) {
    WsObject *self = as_ws(object);
    if (!self->core->check_alive("ServerWebSocket.messages")) return nullptr;
    WsQueue *queue = queue_of(self);
    if (!queue) return nullptr;
    Ref result = Ref::steal(new_object(self->core->state->messages_type));  // may run a finaliser
    if (!result) return nullptr;
    as_messages(result.get())->ws = as_ws(Py_NewRef(object));
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

}  // namespace

void wake_iterator(ServerCore &core, MessagesObject *iterator) {
    if (!iterator->future) return;
    core.coroutines.needs_turn();
    // No reference to the iterator: its owner may release it as soon as the future is done, and take a new one.
    Ref future = Ref::steal(std::exchange(iterator->future, nullptr));
    const bool is_here = iterator->thread == PyThread_get_thread_ident();
    Ref result;
    if (is_here) {
        result = Ref::steal(resolve(nullptr, future.get()));
    } else {
        Ref loop = call_method(future.get(), "get_loop");
        Ref function = loop ? Ref::steal(PyCFunction_New(&kResolve, nullptr)) : Ref();
        if (function) {
            result = call_method(loop.get(), "call_soon_threadsafe", "OO", function.get(), future.get());
        }
    }
    if (result) return;
    if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear();  // that event loop is closed: nothing waits in it
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
    return export_type(module, "uwserve._core.Messages", sizeof(MessagesObject), messages_slots,
                       &state->messages_type) &&
           make_type(module, "uwserve._core.MessageWait", sizeof(MessageWaitObject), wait_slots,
                     &state->messages_wait_type);
}

PyMethodDef kMessagesMethods[] = {
    {"messages", raw_call<messages>, METH_NOARGS, docs::kServerWebSocket_messages},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
