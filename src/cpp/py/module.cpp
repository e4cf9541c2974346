// The extension module: its state, its types, what happens in a fork.
#include <pybind11/pybind11.h>

#include <memory>

#include "bind.h"
#include "request.h"
#include "uws/deflate_fast.h"
#include "ws_queue.h"

namespace py = pybind11;

namespace uwserve {

namespace {

constexpr const char *kStateName = "uwserve._core.state";

// In the child of a fork: every server of the parent is over here, and nothing the parent shares is touched.
void after_fork_in_child(ModuleState *state) {
    for (ServerCore *core : state->servers) core->forked();
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "uWebSockets' App and WebSocket, bound directly. Use it through uwserve.";
    auto owned = std::make_unique<ModuleState>();
    ModuleState *state = owned.get();
    // Types and servers refer to the state until the process ends, so it is never freed.
    py::capsule capsule(owned.release(), kStateName);
    module.attr("_state") = capsule;
    if (!add_websocket_type(module.ptr(), state) || !add_request_type(module.ptr(), state) ||
        !add_view_owner_type(module.ptr(), state) || !add_driver_type(module.ptr(), state) ||
        !add_loop_reader_type(module.ptr(), state) || !add_messages_types(module.ptr(), state)) {
        throw py::error_already_set();
    }
    bind_tls(module);
    bind_server(module, state);
    py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") =
                                                           py::cpp_function([state] { after_fork_in_child(state); }));
    module.attr("uwebsockets_version") = "20.44";
    module.attr("codec") = codec_name();
}

}  // namespace uwserve
