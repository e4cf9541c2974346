// The methods of the server that answer a request; raw, because they are hot.
#pragma once

#include <string>

#include "py/request/request.h"

namespace uwserve {

extern PyMethodDef kAnswerMethods[];
extern PyMethodDef kFacadeMethods[];  // of a ServerControl
// The request argument of such a method, on the loop thread; NULL with an exception set.
RequestObject *read_request(ServerCore *core, PyObject *object, const char *call);
// The status line of an answer from its code. False with ValueError set.
bool read_status(PyObject *object, std::string *line);

}  // namespace uwserve
