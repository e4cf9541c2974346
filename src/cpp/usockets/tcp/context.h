// tcp/context.h - the contexts of a loop and their sockets. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// Calls f for every socket that is open when it is reached; f may close any socket.
void us_socket_context_each(us_socket_context_t *context, void (*f)(us_socket_t *, void *user), void *user);
// The loop's contexts, one after the other; NULL starts and ends the walk.
us_socket_context_t *us_loop_next_context(us_loop_t *loop, us_socket_context_t *previous);

// ---- for the socket layer ----

void us_context_link(us_socket_t *s);
void us_context_unlink(us_socket_t *s);
void us_contexts_free_dead(us_loop_internal_t *internal);
void us_contexts_detach(us_loop_t *loop);  // the loop is freed before its contexts
void us_contexts_close_fds(us_loop_t *loop);  // after fork
