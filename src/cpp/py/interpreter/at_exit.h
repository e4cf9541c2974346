// The interpreter's end, for a thread that still runs a server: a daemon thread whose handler has not returned in time.
//
// Before version 3.14, CPython ends such a thread when it asks for the GIL: by pthread_exit(), which unwinds the stack
// as an exception does. C++ frames must not be left like that: destructors would release objects without the GIL, and
// as destructors are noexcept, the process would crash. So the thread stays where it has called Python, as it does in
// 3.14, until the process ends. It holds no lock there.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <unistd.h>

#include <cxxabi.h>

namespace uwserve {

[[gnu::cold, noreturn]] inline void stay() {
    while (true) pause();
}

// Calls `function`, which may run Python or wait for the GIL, on the thread of a loop. Costs nothing. The forced
// unwinding has no exception object, so in libstdc++ the caught reference refers to nothing.
template <typename Function>
[[gnu::always_inline]] __attribute__((no_sanitize("undefined"))) inline auto until_exit(Function function) {
#ifdef __GLIBCXX__
    try {
        return function();
    } catch (abi::__forced_unwind &) {
        stay();
    }
#else
    return function();
#endif
}

// Calls a function of Python's that may run code: a callable, a finaliser that the collector runs when an object is
// made (up to version 3.11), an audit or unraisable hook. tests/python/meta/test_layers.py has the list of such
// functions, and checks that each call is guarded.
template <auto Function, typename... Arguments>
[[gnu::always_inline]] inline auto guarded(Arguments... arguments) {
    return until_exit([&] { return Function(arguments...); });
}

inline PyObject *new_object(PyTypeObject *type) {
    return until_exit([type] { return type->tp_alloc(type, 0); });
}

}  // namespace uwserve
