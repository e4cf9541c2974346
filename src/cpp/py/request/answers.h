// Requests, from HttpConnections to the facade (ServerCore::on_request()), and the methods of the server that answer
// them.
#pragma once

#include <string>

#include "py/request/fields.h"
#include "py/request/request.h"

namespace uwserve {

extern PyMethodDef kAnswerMethods[];
extern PyMethodDef kFacadeMethods[];  // of a ServerControl
// The request argument of such a method, on the loop thread; NULL with an exception set.
RequestObject *read_request(ServerCore *core, PyObject *object, const char *call);

// Each of these returns false with an exception set.
bool check_count(const char *call, Py_ssize_t count, Py_ssize_t expected);
// The arguments of the methods that respond: request, status, headers, and a body, which the caller checks.
struct ResponseArguments {
    bool read(PyObject *self, PyObject *const *args, Py_ssize_t count, const char *call);

    ServerCore *core = nullptr;
    RequestObject *request = nullptr;
    std::string status;  // the status line
    FieldList headers;
};

}  // namespace uwserve
