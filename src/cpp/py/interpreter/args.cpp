#include "py/interpreter/args.h"

namespace uwserve {

namespace {

// Which parameter has that name; `total` if none does.
int index_of(PyObject *name, const char *const *parameters, int total) {
    int i = 0;
    while (i < total && !(PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, parameters[i]) == 0)) i++;
    return i;
}

}  // namespace

bool read_args(const char *call, PyObject *const *args, Py_ssize_t count, PyObject *names,
               const char *const *parameters, int required, int total, PyObject **out) {
    if (count > total) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", call, total, count);
        return false;
    }
    for (int i = 0; i < total; i++) out[i] = i < count ? args[i] : nullptr;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t n = 0; n < named; n++) {
        PyObject *name = PyTuple_GET_ITEM(names, n);
        const int i = index_of(name, parameters, total);
        if (i == total) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", call, name);
            return false;
        }
        if (out[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", call, parameters[i]);
            return false;
        }
        out[i] = args[count + n];
    }
    for (int i = 0; i < required; i++) {
        if (!out[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", call, parameters[i]);
            return false;
        }
    }
    return true;
}

bool read_dict(const char *call, PyObject *dict, const char *const *parameters, int total, PyObject **out) {
    for (int i = 0; i < total; i++) out[i] = nullptr;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &key, &value)) {
        const int i = index_of(key, parameters, total);
        if (i == total) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected option %R", call, key);
            return false;
        }
        out[i] = value;
    }
    return true;
}

bool read_bool(PyObject *object, const char *name, bool *value) {
    if (!object) return true;
    if (!PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be bool, not %.200s", name, Py_TYPE(object)->tp_name);
        return false;
    }
    *value = object == Py_True;
    return true;
}

PyObject *refuse_copy(PyObject *self, PyObject *) {
    PyErr_Format(PyExc_TypeError, "cannot copy or pickle a %.200s", Py_TYPE(self)->tp_name);
    return nullptr;
}

}  // namespace uwserve
