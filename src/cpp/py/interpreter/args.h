// Argument parsing of the raw methods: what PyArg_ParseTupleAndKeywords does, for vectorcall, with our error texts. All
// return false with TypeError set.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

// Keyword arguments of METH_FASTCALL methods: fills `out` (borrowed, NULL when absent) from positional and named
// arguments.
bool read_args(const char *call, PyObject *const *args, Py_ssize_t count, PyObject *names,
               const char *const *parameters, int required, int total, PyObject **out);
// The same from a dict; unknown keys are refused.
bool read_dict(const char *call, PyObject *dict, const char *const *parameters, int total, PyObject **out);
// The truth of an optional bool argument.
bool read_bool(PyObject *object, const char *name, bool *value);

// __reduce_ex__ of what refers to something that cannot be copied.
PyObject *refuse_copy(PyObject *self, PyObject *protocol);

}  // namespace uwserve
