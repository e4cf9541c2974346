// Methods of a ServerWebSocket that control its connection: cork, close, terminate, pause, resume, get_buffered_amount.
#pragma once

#include <string>

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kControlMethods[];

// The status code and the reason of a Close frame (RFC 6455 7.4, 5.5). False with TypeError or ValueError set. With
// `may_have_none`, Bun's 0 and the codes that a close handler may get but no frame carries are read as 1005: no code.
bool read_close_code(PyObject *object, long *code, bool may_have_none = false);
bool read_close_reason(PyObject *object, std::string *reason);

}  // namespace uwserve
