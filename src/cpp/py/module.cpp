// The extension module: its state, its types, what happens in a fork.
#include <pybind11/pybind11.h>

#include <memory>

#include "bind.h"
#include "request.h"
#include "timed_call.h"
#include "usockets/tls.h"
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

// What `uwserve doctor` tells of how this was built.
py::dict build_facts() {
    py::dict facts;
    facts["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(
        PYBIND11_VERSION_MINOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_PATCH);
#if defined(__clang__)
    facts["compiler"] = __VERSION__;
#else
    facts["compiler"] = "GCC " __VERSION__;
#endif
#if defined(__GLIBC__)
    facts["libc"] = "glibc " PYBIND11_TOSTRING(__GLIBC__) "." PYBIND11_TOSTRING(__GLIBC_MINOR__);
#else
    facts["libc"] = "not glibc";
#endif
    facts["openssl"] = us_tls_library(1);
    facts["pgo"] = UWSERVE_PGO;
    return facts;
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
        !add_loop_reader_type(module.ptr(), state) || !add_probe_type(module.ptr(), state) ||
        !add_messages_types(module.ptr(), state) || !add_timed_call_type(module.ptr()) ||
        !add_socket_address_type(module.ptr(), state)) {
        throw py::error_already_set();
    }
    bind_tls(module);
    bind_server(module, state);
    py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") =
                                                           py::cpp_function([state] { after_fork_in_child(state); }));
    module.attr("uwebsockets_version") = UWSERVE_UWEBSOCKETS_VERSION;
    module.attr("codec") = codec_name();
    module.attr("openssl_version") = us_tls_library(0);
    module.attr("build") = build_facts();
}

}  // namespace uwserve
