// Short forms of calls into CPython that the binding makes often. All need the GIL; none sets an exception of its own.
#pragma once

#include <initializer_list>
#include <string_view>

#include "py/interpreter/ref.h"

namespace uwserve {

// For structures that begin with PyObject_HEAD.
template <typename T>
PyObject *as_object(T *self) {
    return reinterpret_cast<PyObject *>(self);
}
template <typename T>
Ref new_ref(T *self) {
    return Ref::borrow(as_object(self));
}

inline PyObject *make_bytes(std::string_view data) {
    return PyBytes_FromStringAndSize(data.data(), static_cast<Py_ssize_t>(data.size()));
}
inline PyObject *make_latin1(std::string_view text) {
    return PyUnicode_DecodeLatin1(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
}
// `errors` as for bytes.decode(); NULL: "strict".
inline PyObject *make_utf8(std::string_view text, const char *errors = nullptr) {
    return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), errors);
}

inline Ref get_attribute(PyObject *object, const char *name) {
    return Ref::steal(guarded<PyObject_GetAttrString>(object, name));
}

// object.name(), or with arguments as Py_BuildValue() makes them of `format`.
inline Ref call_method(PyObject *object, const char *name) {
    return Ref::steal(guarded<PyObject_CallMethod>(object, name, nullptr));
}
template <typename... Arguments>
Ref call_method(PyObject *object, const char *name, const char *format, Arguments... arguments) {
    return Ref::steal(guarded<PyObject_CallMethod>(object, name, format, arguments...));
}

// Whether object.name() returns True. An exception counts as another answer, and is cleared.
inline bool is_true(PyObject *object, const char *name) {
    Ref answer = call_method(object, name);
    if (!answer) PyErr_Clear();
    return answer.get() == Py_True;
}

// `from module import name`.
inline Ref import_from(const char *module_name, const char *name) {
    Ref module = Ref::steal(guarded<PyImport_ImportModule>(module_name));
    return module ? get_attribute(module.get(), name) : Ref();
}

inline void raise_again(PyObject *error) { PyErr_SetObject(as_object(Py_TYPE(error)), error); }

// For tp_traverse and tp_clear.
inline int visit_all(visitproc visit, void *arg, std::initializer_list<PyObject *> parts) {
    for (PyObject *part : parts) Py_VISIT(part);
    return 0;
}
inline void clear_all(std::initializer_list<PyObject **> parts) {
    for (PyObject **part : parts) Py_CLEAR(*part);
}

}  // namespace uwserve
