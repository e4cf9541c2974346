// The extension module: its state, its types, its hook for forks.
#include <pybind11/pybind11.h>

#include <memory>

#include "py/coroutines/probe.h"
#include "py/request/request.h"
#include "py/request/socket_address.h"
#include "py/server/bind.h"
#include "py/server/loop_reader.h"
#include "py/server/timed_call.h"
#include "py/server/tls_config.h"
#include "py/websocket/message_view.h"
#include "py/websocket/messages.h"
#include "py/websocket/queue.h"
#include "uws/deflate/fast.h"
#include "docstrings.h"

namespace py = pybind11;

namespace uwserve {

namespace {

constexpr const char *kStateName = "uwserve._core.state";

// In the child of a fork every server of the parent has ended, and nothing that the parent shares is touched.
void after_fork_in_child(ModuleState *state) {
    for (ServerCore *core : state->servers) core->forked();
}

// For `uwserve doctor`: how this was built.
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
    facts["openssl"] = openssl_built_against();
    facts["pgo"] = UWSERVE_PGO;
    return facts;
}

// Of the members that the facade puts on native types.
py::dict docstrings() {
    py::dict texts;
    texts["Request.headers"] = docs::kRequest_headers;
    texts["Request.bytes"] = docs::pybind::kRequest_bytes;
    texts["Request.text"] = docs::pybind::kRequest_text;
    texts["Request.json"] = docs::pybind::kRequest_json;
    texts["ServerWebSocket.closed"] = docs::pybind::kServerWebSocket_closed;
    texts["ServerWebSocket.drained"] = docs::pybind::kServerWebSocket_drained;
    return texts;
}

// Whether this interpreter may import the module; false with ImportError set. Servers, signals and fork hooks belong to
// the main interpreter, and so does PyGILState, by which pybind11 asks for the GIL: in a subinterpreter of CPython 3.11
// that never returns. So no code of pybind11's may run before this check.
bool check_interpreter() {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(
            PyExc_ImportError,
            "uwserve works in the main interpreter only, and this is a subinterpreter; run servers there, or in "
            "processes of their own");
        return false;
    }
#ifdef Py_GIL_DISABLED
    // CPython enables the GIL for a module that does not declare free-threading support, unless PYTHON_GIL=0 is set.
    Ref is_on = Ref::steal(guarded<PyObject_CallFunctionObjArgs>(PySys_GetObject("_is_gil_enabled"), nullptr));
    if (!is_on) return false;
    if (is_on.get() != Py_True) {
        PyErr_SetString(PyExc_ImportError,
                        "uwserve needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps switched off: leave that out");
        return false;
    }
#endif
    return true;
}

// pybind11's base class is reachable (Server.__mro__). Its tp_new throws a C++ exception for a class that is not bound
// to C++, which would end the process; here it is a RuntimeError. All modules made with this pybind11 share the base
// class.
PyObject *make_instance(PyTypeObject *type, PyObject *, PyObject *) { return py::detail::make_new_instance(type); }

void make_safe() {
    auto *base = reinterpret_cast<PyTypeObject *>(py::detail::get_internals().instance_base);
    base->tp_new = raw_call<make_instance>;
}

}  // namespace

PYBIND11_MODULE(_core_of_main, module) {
    make_safe();
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
    py::options plain_docs;
    plain_docs.disable_function_signatures();
    bind_tls(module);
    bind_server(module, state);
    py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") =
                                                           py::cpp_function([state] { after_fork_in_child(state); }));
    module.attr("uwebsockets_version") = UWSERVE_UWEBSOCKETS_VERSION;
    module.attr("codec") = codec_name();
    module.attr("openssl_version") = openssl_in_use();
    module.attr("build") = build_facts();
    module.attr("docstrings") = docstrings();
}

}  // namespace uwserve

namespace {

int exec_check(PyObject *) { return uwserve::check_interpreter() ? 0 : -1; }

}  // namespace

// CPython calls this first. From 3.13 on it does so in the main interpreter, even when a subinterpreter imports the
// module and then runs the slots. So the check is made here, and once more before pybind11's slots.
extern "C" PYBIND11_EXPORT PyObject *PyInit__core() {
    if (!uwserve::check_interpreter()) return nullptr;
    PyObject *made = uwserve::PyInit__core_of_main();
    if (!made || !PyObject_TypeCheck(made, &PyModuleDef_Type)) return made;
    constexpr size_t kMostSlots = 8;
    static PyModuleDef_Slot slots[kMostSlots + 2] = {{Py_mod_exec, uwserve::raw_slot<exec_check>()}};
    auto *def = reinterpret_cast<PyModuleDef *>(made);
    if (def->m_slots == slots) return made;
    size_t count = 1;
    for (const PyModuleDef_Slot *slot = def->m_slots; slot && slot->slot; slot++) {
        if (count > kMostSlots) {
            PyErr_SetString(PyExc_ImportError, "uwserve: pybind11 has more module slots than this knows of");
            return nullptr;
        }
        slots[count++] = *slot;
    }
    slots[count] = {0, nullptr};
    def->m_slots = slots;
    return made;
}
