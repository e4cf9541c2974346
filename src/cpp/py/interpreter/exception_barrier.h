// Functions that CPython calls by a plain C pointer: methods, getters, slots, vectorcalls. A C++ exception must not
// pass through the interpreter's frames (it would end the process), so each function is registered as raw<function>,
// which converts the exception into Python's: std::bad_alloc and std::length_error become MemoryError,
// std::system_error becomes OSError, all others RuntimeError.
//
// This is done at compile time: the function is inlined into its wrapper, and the path without an exception costs no
// instruction. tests/python/meta/test_layers.py checks that no function is registered without it. pybind11 does the
// same for the functions that it registers. The unwinding of a thread at the interpreter's end (interpreter/at_exit.h)
// is not a std::exception, and passes.
#pragma once

#include <exception>
#include <type_traits>

#include "py/interpreter/ref.h"

namespace uwserve {

// Sets the Python exception for the C++ one that is being handled.
[[gnu::cold]] void set_python_error();

// The return value of a function that has set an exception.
template <typename R>
struct Failed {
    static constexpr R value = static_cast<R>(-1);  // int, Py_ssize_t, PySendResult
};
template <typename T>
struct Failed<T *> {
    static constexpr T *value = nullptr;
};

template <auto function>
struct Raw;

template <typename R, typename... Arguments, R (*function)(Arguments...)>
struct Raw<function> {
    static R call(Arguments... arguments) {
        try {
            return function(arguments...);
        } catch (const std::exception &) {
            set_python_error();
            if constexpr (std::is_void_v<R>) {
                guarded<PyErr_WriteUnraisable>(nullptr);  // deallocations and the like cannot raise
            } else {
                return Failed<R>::value;
            }
        }
    }
};

template <auto function>
inline constexpr auto raw_call = &Raw<function>::call;

// The same, as a PyMethodDef holds a METH_FASTCALL function, and as a PyType_Slot holds any function.
template <auto function>
PyCFunction raw_fastcall() {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)(void)>(raw_call<function>));
}
template <auto function>
void *raw_slot() {
    return reinterpret_cast<void *>(raw_call<function>);
}

}  // namespace uwserve
