// A server as two Python classes, by pybind11: ServerCore has the methods that users call, ServerControl those that the
// facade calls. Both are methods of the same C++ object. This header is for the files that use pybind11: module.cpp,
// server/bind.cpp, server/stats.cpp and server/tls_config.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include "py/request/request.h"
#include "py/server/core.h"
#include "py/server/server_object.h"

namespace uwserve {

// The Python object with the methods that only the facade calls. It holds the server, which has the core in it.
struct ServerControl {
    ServerControl(Ref owner, ServerCore *controlled) : server(std::move(owner)), core(controlled) {}
    int traverse(visitproc visit, void *arg) {
        Py_VISIT(server.get());
        return 0;
    }
    void clear() {
        core = nullptr;
        server.reset();
    }

    Ref server;
    ServerCore *core;  // NULL once the garbage collector has cleared this
};

// The C++ object of an initialised instance of pybind11's; else NULL, with TypeError set. `Class.__new__(Class)`,
// copies and subclasses whose __init__ does not call ours have no C++ object, and pybind11 itself would allocate memory
// for one.
template <typename T>
T *initialised(pybind11::handle object) {
    if (!pybind11::detail::is_holder_constructed(object.ptr())) {
        PyErr_Format(PyExc_TypeError, "this %.200s is not initialised: __init__() was not called",
                     Py_TYPE(object.ptr())->tp_name);
        return nullptr;
    }
    auto *instance = reinterpret_cast<pybind11::detail::instance *>(object.ptr());
    return static_cast<T *>(instance->get_value_and_holder().value_ptr());
}

template <typename T>
struct InitialisedCaster : pybind11::detail::type_caster_base<T> {
    bool load(pybind11::handle source, bool convert) {
        if (!pybind11::isinstance<T>(source)) return false;
        if (!initialised<T>(source)) throw pybind11::error_already_set();
        return pybind11::detail::type_caster_base<T>::load(source, convert);
    }
};

// A call of ours has returned false and set a Python exception, which passes through pybind11 as a C++ exception.
inline void check(bool ok) {
    if (!ok) throw pybind11::error_already_set();
}
inline void check_loop_thread(ServerCore &core, const char *call) {
    if (!core.on_loop_thread()) check(core.refuse_thread(call));
}

void bind_server(pybind11::module_ &module, ModuleState *state);

}  // namespace uwserve

namespace pybind11::detail {

template <>
struct type_caster<uwserve::ServerControl> : uwserve::InitialisedCaster<uwserve::ServerControl> {};
// A control object stands for the core of its server: the methods of both classes are functions of a ServerCore.
template <>
struct type_caster<uwserve::ServerCore> : uwserve::InitialisedCaster<uwserve::ServerCore> {
    bool load(handle source, bool convert) {
        if (InitialisedCaster::load(source, convert)) return true;
        if (!isinstance<uwserve::ServerControl>(source)) return false;
        value = uwserve::controlled_core(source.ptr());
        if (!value) throw error_already_set();
        return true;
    }
};
template <>
struct type_caster<uwserve::TlsConfig> : uwserve::InitialisedCaster<uwserve::TlsConfig> {};

}  // namespace pybind11::detail
