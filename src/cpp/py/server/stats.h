// A server's figures: stats() for any thread, topics() and subscribers() for the server's thread.
//
// Nothing here is on the way of a message: the numbers are kept where they are counted (uws/limits/stats.h,
// uws/limits/refusals.h, server/handler_errors.h), and put together on request. Names of keys are promises, which
// uwserve/stats.py documents.
#pragma once

#include "py/server/bind.h"

namespace uwserve {

void bind_stats(pybind11::class_<ServerCore> &type, pybind11::class_<ServerControl> &control);

}  // namespace uwserve
