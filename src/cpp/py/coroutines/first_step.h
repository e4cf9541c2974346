// The first step of a coroutine: it is taken at once, inside the call of the coroutine's handler, in a borrowed Task
// (coroutines/spare_task.h). Most coroutines end in it; this path is inline. GIL; loop thread.
#pragma once

#include "py/server/core.h"

namespace uwserve {

// Whether a handler's result is a coroutine: types.coroutine's generators and collections.abc.Coroutine count.
bool is_other_coroutine(PyObject *object);
inline bool is_coroutine(PyObject *object) { return PyCoro_CheckExact(object) || is_other_coroutine(object); }

// Runs the coroutine that a handler of `ws` (NULL: of a request) has returned. The result is its asyncio.Task if it
// has suspended; none if it has ended, and then an exception out of it has been dealt with.
Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin);

// Passes the current exception of a coroutine to `error` or the log; a failed open handler closes its socket.
void coroutine_failed(ServerCore &core, WsObject *ws, Origin origin);
// Whether the exception is asyncio.CancelledError; -1 with an exception set.
int is_cancelled_error(PyObject *error);

// After a step that is not the common one. `out` is what the coroutine has yielded, or returned (none: None).
Ref finish_first_step(ServerCore &core, WsObject *ws, Ref coroutine, PySendResult status, Ref out, Origin origin);
// With no task entered, inside another coroutine's step, or with a context that is not the base's.
Ref prepare_first_step(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin, PyObject *context);

[[gnu::always_inline]] inline Ref take_first_step(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin) {
    SpareTask &spare = core.coroutines.spare;
    spare.begin_step();  // until nothing of this coroutine runs any more
    PyObject *out = nullptr;
    PySendResult status = guarded<PyIter_Send>(coroutine.get(), Py_None, &out);
    if (status == PYGEN_RETURN && out == Py_None) [[likely]] {
        Py_DECREF(out);
        out = nullptr;
        coroutine.reset();
        if (!spare.has_traces()) [[likely]] {
            spare.end_step();
            return Ref();
        }
    }
    return finish_first_step(core, ws, Ref::steal(coroutine.release()), status, Ref::steal(out), origin);
}

// As run_coroutine(). The coroutine begins with a copy of the variables in `context`; NULL: the base's.
[[gnu::always_inline]] inline Ref start_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin,
                                                  PyObject *context) {
    if (!core.coroutines.spare.is_ready() || context || !ws) [[unlikely]]
        return prepare_first_step(core, ws, Ref::steal(coroutine.release()), origin, context);
    return take_first_step(core, ws, Ref::steal(coroutine.release()), origin);
}

extern PyMethodDef kCoroutineMethods[];  // of a ServerControl

}  // namespace uwserve
