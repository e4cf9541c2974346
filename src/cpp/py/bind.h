// Between module.cpp and server_bind.cpp: the two files that use pybind11.
#pragma once

#include <pybind11/pybind11.h>

#include "server.h"

namespace uwserve {

void bind_server(pybind11::module_ &module, ModuleState *state);

}  // namespace uwserve
