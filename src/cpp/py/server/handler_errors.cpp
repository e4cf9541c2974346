#include "py/server/handler_errors.h"

#include "py/server/core.h"
#include "py/websocket/queue.h"

namespace uwserve {

bool ends_run(PyObject *error) {
    return PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
           PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
}

void HandlerErrors::log(Origin origin, WsObject *ws) {
    Ref error = take_exception();
    if (!error) return;
    // Without a run to end, it is logged like any other.
    if (ends_run(error.get()) && (core_.running() || core_.finish.has_begun())) {
        core_.run.end_with(std::move(error));
        return;
    }
    count(origin);
    Ref hook = Ref::borrow(core_.log_exception.get());
    if (!hook) {
        raise_again(error.get());
        guarded<PyErr_WriteUnraisable>(core_.self);
        return;
    }
    PyObject *socket = ws ? as_object(ws) : Py_None;
    core_.coroutines.leave_if_idle();
    Ref result = Ref::steal(guarded<PyObject_CallFunction>(hook.get(), "sOO", name_of(origin), error.get(), socket));
    if (!result) guarded<PyErr_WriteUnraisable>(hook.get());
}

void HandlerErrors::log_native(Origin origin) {
    core_.gil.ensure();
    set_python_error();
    if (core_.instance) core_.instance->uncork_failed();
    log(origin, nullptr);
}

void HandlerErrors::handle(WsObject *ws, Origin origin) {
    if (!ws || !core_.options.error || !PyErr_ExceptionMatches(PyExc_Exception)) {
        log(origin, ws);
        return;
    }
    count(origin);
    Ref error = take_exception();
    Ref handler = Ref::borrow(core_.options.error.get());
    core_.coroutines.before_call(handler.get());
    ContextScope scope = core_.scope(&ws->context);
    Ref result;
    if (scope) {  // Bun's order; the facade adapts handlers of the older one
        result = Ref::steal(guarded<PyObject_CallFunctionObjArgs>(handler.get(), error.get(), as_object(ws), nullptr));
    }
    if (!result) {
        log(Origin::kError, ws);
    } else if (result.get() != Py_None && is_coroutine(result.get())) {
        scope.close();
        run_in_order(core_, ws, std::move(result), nullptr, Origin::kError);
    }
}

}  // namespace uwserve
