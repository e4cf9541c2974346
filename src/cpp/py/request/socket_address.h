// SocketAddress: the named tuple that request_ip() returns. Made once at import; GIL.
#pragma once

#include "py/server/core.h"

namespace uwserve {

bool add_socket_address_type(PyObject *module, ModuleState *state);
PyObject *make_socket_address(const ModuleState &state, const ClientAddress &client);

}  // namespace uwserve
