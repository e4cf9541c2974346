// The callable for an event loop when the epoll descriptor of a server is readable: a type of its own, so that a turn
// runs no Python code. The reader holds the server, as an event loop's reader must. The garbage collector visits it,
// because servers and loops hold each other.
#pragma once

#include "py/server/core.h"

namespace uwserve {

// For a loop's add_reader(): pumps, and calls on_end(Run::Pumped) when the server is over. NULL with an
// exception set.
PyObject *new_loop_reader(ServerCore &core, PyObject *on_end);
bool add_loop_reader_type(PyObject *module, ModuleState *state);

}  // namespace uwserve
