// loop/exception_barrier.h - exceptions of the layer above end a socket, not the loop.

#pragma once

#include "usockets/libusockets.h"

#include <exception>

[[gnu::cold]] void us_callback_threw(us_loop_t *loop, us_socket_t *s);

// Calls from the loop to the layer above go through us_contain(). A C++ exception, that is a failed allocation, closes `s`
// (NULL: nothing) and ends neither the iteration nor the process.
template <typename F>
[[gnu::always_inline]] inline void us_contain(us_loop_t *loop, us_socket_t *s, F call) {
    try {
        call();
    } catch (const std::exception &) {
        us_callback_threw(loop, s);
    }
}
