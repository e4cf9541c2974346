#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

// Makes the type TimedCall and adds it to the module. False with an exception set.
bool add_timed_call_type(PyObject *module);

}  // namespace uwserve
