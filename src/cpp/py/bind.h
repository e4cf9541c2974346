// Between the files that use pybind11: module.cpp, server_bind.cpp, server_stats.cpp and tls_bind.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include "server.h"

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

void bind_tls(pybind11::module_ &module);

// What it tells about itself.
void bind_stats(pybind11::class_<ServerCore> &type);

void bind_server(pybind11::module_ &module, ModuleState *state);

}  // namespace uwserve
