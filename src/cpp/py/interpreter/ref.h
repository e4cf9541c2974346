// An owned reference to a Python object, and helpers for the current exception.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <utility>

#include "py/interpreter/at_exit.h"

namespace uwserve {

// The object's finaliser may run Python, and never return.
inline void drop(PyObject *object) {
    until_exit([object] { Py_XDECREF(object); });
}

// An owned reference (or none). Copying is spelled out: Ref::borrow(r.get()).
class Ref {
  public:
    Ref() = default;
    static Ref steal(PyObject *object) { return Ref(object); }
    static Ref borrow(PyObject *object) { return Ref(Py_XNewRef(object)); }
    Ref(Ref &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Ref &operator=(Ref &&other) noexcept {
        // The old object's finaliser may read this reference, and must see the new value.
        PyObject *old = std::exchange(object_, std::exchange(other.object_, nullptr));
        drop(old);
        return *this;
    }
    ~Ref() { drop(object_); }
    Ref(const Ref &) = delete;
    Ref &operator=(const Ref &) = delete;

    PyObject *get() const { return object_; }
    PyObject *release() { return std::exchange(object_, nullptr); }
    void reset() { *this = Ref(); }
    PyObject **slot() { return &object_; }  // for code that stores an owned reference there
    explicit operator bool() const { return object_ != nullptr; }

  private:
    explicit Ref(PyObject *object) : object_(object) {}
    PyObject *object_ = nullptr;
};

// Saves the exception that is set, if any, and puts it back: for clean-up code that may run Python in between.
class SavedError {
  public:
    SavedError() { PyErr_Fetch(&type_, &value_, &traceback_); }
    ~SavedError() { PyErr_Restore(type_, value_, traceback_); }
    SavedError(const SavedError &) = delete;
    SavedError &operator=(const SavedError &) = delete;

  private:
    PyObject *type_, *value_, *traceback_;
};

// The exception that is set, normalised, with its traceback attached; the error indicator is clear afterwards.
inline Ref take_exception() {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    guarded<PyErr_NormalizeException>(&type, &value, &traceback);
    if (traceback && value) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return Ref::steal(value);
}

}  // namespace uwserve
