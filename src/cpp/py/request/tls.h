// Request.tls: the results of the TLS handshake of a request's connection, and the identity of the client.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

PyObject *get_request_tls(PyObject *object, void *);

}  // namespace uwserve
