// The path of most coroutines, in line: they end in their first step.
#pragma once

#include "py/server/core.h"

namespace uwserve {

// The map of its Context's variables, which is another object after each change.
inline PyObject *Coroutines::variables() const { return core_.contexts.variables(spare_.context.get()); }

[[gnu::always_inline]] inline bool Coroutines::was_touched() const {
    return as_driver(spare_.driver)->kept || Py_REFCNT(spare_.task.get()) != spare_.references ||
           Py_REFCNT(spare_.context.get()) != spare_.context_references || variables() != spare_.variables;
}

[[gnu::always_inline]] inline Ref Coroutines::step(WsObject *ws, Ref coroutine, Origin origin) {
    busy_ = true;  // until nothing of this coroutine runs any more
    PyObject *out = nullptr;
    PySendResult status = guarded<PyIter_Send>(coroutine.get(), Py_None, &out);
    if (status == PYGEN_RETURN && out == Py_None) [[likely]] {
        Py_DECREF(out);
        out = nullptr;
        coroutine.reset();
        if (!was_touched()) [[likely]] {
            busy_ = false;
            return Ref();
        }
    }
    return stepped(ws, Ref::steal(coroutine.release()), status, Ref::steal(out), origin);
}

[[gnu::always_inline]] inline Ref Coroutines::run(WsObject *ws, Ref coroutine, Origin origin, PyObject *context) {
    if (!entered_ || is_busy() || as_driver(spare_.driver)->kept || context || !ws) [[unlikely]]
        return run_outside(ws, Ref::steal(coroutine.release()), origin, context);
    return step(ws, Ref::steal(coroutine.release()), origin);
}

}  // namespace uwserve
