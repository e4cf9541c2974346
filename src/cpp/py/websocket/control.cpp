#include "py/websocket/control.h"

#include "docstrings.h"
#include "py/websocket/queue.h"
#include "uws/websocket/cork.h"
#include "uws/websocket/reading.h"

namespace uwserve {

namespace {

// The close handler's code for a Close frame without a status code (RFC 6455 7.1.5).
constexpr long kNoStatus = 1005;

// Runs act(self) for an open socket: now on the loop's thread, or later if called on another. Returns None, or NULL
// with an exception set.
template <typename F>
PyObject *run_or_post(WsObject *self, const char *call, F act) {
    if (!self->ws) Py_RETURN_NONE;
    if (self->core->on_loop_thread()) {
        ServerCore::DispatchScope entry(*self->core);
        act(self);
        Py_RETURN_NONE;
    }
    auto act_if_open = [act](ServerCore &, WsObject *ws) {
        if (ws->ws) act(ws);
    };
    return post_for(self, call, act_if_open) ? Py_NewRef(Py_None) : nullptr;
}

// Whether a function or bound method has no parameters: it leaves the socket out, as JavaScript may. The code object
// shows it, as each call may bring a new function. Any other callable gets the socket.
bool takes_nothing(PyObject *callback) {
    int bound = 0;
    if (PyMethod_Check(callback)) {
        callback = PyMethod_GET_FUNCTION(callback);
        bound = 1;
    }
    if (!PyFunction_Check(callback)) return false;
    auto *code = reinterpret_cast<PyCodeObject *>(PyFunction_GET_CODE(callback));
    return code->co_argcount == bound && !(code->co_flags & CO_VARARGS);
}

PyObject *call_corked(PyObject *callback, PyObject *socket) {
    if (takes_nothing(callback)) return guarded<PyObject_CallNoArgs>(callback);
    return guarded<PyObject_CallOneArg>(callback, socket);
}

PyObject *cork(PyObject *object, PyObject *callback) {
    WsObject *self = as_ws(object);
    if (!PyCallable_Check(callback)) {
        PyErr_Format(PyExc_TypeError, "callback must be callable, not %.200s", Py_TYPE(callback)->tp_name);
        return nullptr;
    }
    if (!self->ws) return call_corked(callback, object);
    if (!self->core->check_loop_thread("ServerWebSocket.cork")) return nullptr;
    Ref keep = Ref::borrow(object);
    ServerCore::DispatchScope entry(*self->core);
    Socket *ws = self->ws;
    PyObject *result = nullptr;
    cork_while(ws, [&] { result = call_corked(callback, object); });
    SavedError error;
    after_cork(ws);
    return result;
}

bool is_close_code(long code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

PyObject *close(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"code", "reason"};
    static constexpr const char *call = "ServerWebSocket.close";
    WsObject *self = as_ws(object);
    PyObject *given[2];
    if (!read_args(call, args, count, names, parameters, 0, 2, given)) return nullptr;
    long code = 1000;
    std::string reason;
    if (given[0] && !read_close_code(given[0], &code, true)) return nullptr;
    if (given[1] && !read_close_reason(given[1], &reason)) return nullptr;
    if (code == kNoStatus) reason.clear();  // a reason needs a code
    return run_or_post(self, call,
                       [code, reason](WsObject *ws) { ws->core->close_handle(ws, static_cast<int>(code), reason); });
}

PyObject *terminate(PyObject *object, PyObject *) {
    return run_or_post(as_ws(object), "ServerWebSocket.terminate",
                       [](WsObject *ws) { ws->core->terminate_handle(ws); });
}

PyObject *pause(PyObject *object, PyObject *) {
    return run_or_post(as_ws(object), "ServerWebSocket.pause", [](WsObject *ws) { pause_for_user(ws->ws); });
}

PyObject *resume(PyObject *object, PyObject *) {
    return run_or_post(as_ws(object), "ServerWebSocket.resume", [](WsObject *ws) {
        if (resume_for_user(ws->ws) && ws->queue) continue_reading(ws);
    });
}

PyObject *get_buffered_amount(PyObject *object, PyObject *) {
    return guarded<PyObject_GetAttrString>(object, "buffered_amount");
}

}  // namespace

bool read_close_code(PyObject *object, long *code, bool may_have_none) {
    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "code must be int, not %.200s", Py_TYPE(object)->tp_name);
        return false;
    }
    int overflow = 0;
    *code = PyLong_AsLongAndOverflow(object, &overflow);
    if (!overflow && is_close_code(*code)) return true;
    if (!overflow && may_have_none && (*code == 0 || *code == kNoStatus || *code == 1006)) {
        *code = kNoStatus;
        return true;
    }
    PyErr_Format(PyExc_ValueError, "code must be 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 7.4)%s, got %R",
                 may_have_none ? ", or 0, 1005 or 1006 for a Close without one" : "", object);
    return false;
}

bool read_close_reason(PyObject *object, std::string *reason) {
    std::string_view text;
    if (!read_text(object, "reason", &text)) return false;
    if (text.size() > 123) {
        PyErr_Format(PyExc_ValueError, "reason must not be over 123 bytes of UTF-8 (RFC 6455 5.5), got %zu",
                     text.size());
        return false;
    }
    reason->assign(text);
    return true;
}

PyMethodDef kControlMethods[] = {
    {"cork", raw_call<cork>, METH_O, docs::kServerWebSocket_cork},
    {"close", raw_fastcall<close>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerWebSocket_close},
    {"terminate", raw_call<terminate>, METH_NOARGS, docs::kServerWebSocket_terminate},
    {"pause", raw_call<pause>, METH_NOARGS, docs::kServerWebSocket_pause},
    {"resume", raw_call<resume>, METH_NOARGS, docs::kServerWebSocket_resume},
    {"get_buffered_amount", raw_call<get_buffered_amount>, METH_NOARGS, docs::kServerWebSocket_get_buffered_amount},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
