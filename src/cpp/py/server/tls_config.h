// TlsConfig: a checked TLS configuration as a Python object. It is made on any thread, before there is a server to use
// it, so that serve() and reload() refuse a bad configuration before anything has changed.
#pragma once

#include "py/server/bind.h"

namespace uwserve {

void bind_tls(pybind11::module_ &module);

}  // namespace uwserve
