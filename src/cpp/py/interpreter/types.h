// Types of the extension, whose instances only the extension makes. GIL.
#pragma once

#include "py/interpreter/objects.h"

namespace uwserve {

// Instances are collected as garbage if the type has Py_tp_traverse, and called by vectorcall if its Py_tp_call is
// PyVectorcall_Call. False with an exception set.
bool make_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots, PyTypeObject **type);
// The same, and the type becomes an attribute of the module.
bool export_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots, PyTypeObject **type);

// The end of a tp_dealloc. An instance holds a reference to its type.
inline void free_instance(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

}  // namespace uwserve
