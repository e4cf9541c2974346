#include "py/interpreter/types.h"

#include <cstring>

namespace uwserve {

bool make_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots, PyTypeObject **type) {
    unsigned flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    for (PyType_Slot *slot = slots; slot->slot; slot++) {
        if (slot->slot == Py_tp_traverse) flags |= Py_TPFLAGS_HAVE_GC;
        if (slot->pfunc == reinterpret_cast<void *>(PyVectorcall_Call)) flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    }
    PyType_Spec spec = {name, static_cast<int>(size), 0, flags, slots};
    *type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return *type != nullptr;
}

bool export_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots, PyTypeObject **type) {
    return make_type(module, name, size, slots, type) &&
           PyModule_AddObjectRef(module, strrchr(name, '.') + 1, as_object(*type)) == 0;
}

}  // namespace uwserve
