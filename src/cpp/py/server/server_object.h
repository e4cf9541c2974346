// From a Python server object to its core, for raw methods. Defined in server/bind.cpp, as pybind11 has the objects.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;

// NULL with TypeError set for any other object.
ServerCore *core_of(PyObject *object);
// The same for the methods of a ServerControl.
ServerCore *controlled_core(PyObject *object);

}  // namespace uwserve
