// The methods of the server that answer a request with a streamed body.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kStreamMethods[];

}  // namespace uwserve
