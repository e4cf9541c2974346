// Server.start_coroutine: how the facade runs the coroutine of a request's handler.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kCoroutineMethods[];

}  // namespace uwserve
