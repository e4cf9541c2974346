// Between the files that use pybind11: module.cpp, server/bind.cpp, server/stats.cpp and server/tls_config.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include "py/request/request.h"
#include "py/server/core.h"
#include "py/server/server_object.h"

struct us_tls_config_t;

namespace uwserve {

// A Python object's reference on a TLS configuration.
struct TlsConfig {
    explicit TlsConfig(us_tls_config_t *config) : native(config) {}
    ~TlsConfig();
    TlsConfig(const TlsConfig &) = delete;
    TlsConfig &operator=(const TlsConfig &) = delete;

    us_tls_config_t *const native;
};

// The Python object with the methods that only the facade calls, of the server that it holds: the core lives in that.
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

// Where pybind11 keeps the C++ object of an initialised instance; else NULL, with TypeError set. `Class.__new__(Class)`, copies
// and subclasses whose __init__ does not call ours have none, and pybind11 itself would make up memory for it.
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

void bind_tls(pybind11::module_ &module);

// What it tells about itself.
void bind_stats(pybind11::class_<ServerCore> &type, pybind11::class_<ServerControl> &control);

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
