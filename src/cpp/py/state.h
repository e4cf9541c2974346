// What the module owns: its types, the servers of this process, and a count of live handles for leak tests.
// Made once at import, kept alive by the module. Guarded by the GIL.
#pragma once

#include <vector>

#include "ref.h"

namespace uwserve {

class ServerCore;

struct ModuleState {
    PyTypeObject *websocket_type = nullptr;
    PyTypeObject *request_type = nullptr;
    PyTypeObject *view_owner_type = nullptr;
    Py_ssize_t live_handles = 0;
    std::vector<ServerCore *> servers;
};

}  // namespace uwserve
