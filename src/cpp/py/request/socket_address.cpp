#include "py/request/socket_address.h"

#include <arpa/inet.h>
#include <structseq.h>

#include "docstrings.h"
#include "py/interpreter/objects.h"

namespace uwserve {

namespace {

PyStructSequence_Field fields[] = {
    {"address", docs::kSocketAddress_address},
    {"port", docs::kSocketAddress_port},
    {"family", docs::kSocketAddress_family},
    {nullptr, nullptr},
};

PyStructSequence_Desc description = {"uwserve._core.SocketAddress", docs::kSocketAddress, fields, 3};

}  // namespace

bool add_socket_address_type(PyObject *module, ModuleState *state) {
    state->socket_address_type = PyStructSequence_NewType(&description);
    return state->socket_address_type &&
           PyModule_AddObjectRef(module, "SocketAddress", as_object(state->socket_address_type)) == 0;
}

PyObject *make_socket_address(const ModuleState &state, const ClientAddress &client) {
    char text[INET6_ADDRSTRLEN];
    bool is_v4 = client.ip_length == 4;
    inet_ntop(is_v4 ? AF_INET : AF_INET6, client.ip, text, sizeof(text));
    Ref made = Ref::steal(guarded<PyStructSequence_New>(state.socket_address_type));
    if (!made) return nullptr;
    PyObject *items[] = {PyUnicode_FromString(text), PyLong_FromLong(client.port),
                         PyUnicode_FromString(is_v4 ? "IPv4" : "IPv6")};
    bool is_whole = true;
    for (Py_ssize_t i = 0; i < 3; i++) {
        is_whole &= items[i] != nullptr;
        PyStructSequence_SET_ITEM(made.get(), i, items[i]);  // takes the reference
    }
    return is_whole ? made.release() : nullptr;
}

}  // namespace uwserve
