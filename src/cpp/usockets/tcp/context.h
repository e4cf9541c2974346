// tcp/context.h - the lists of contexts and of their sockets.

#pragma once

#include "usockets/libusockets.h"

void us_context_link(us_socket_t *s);
void us_context_unlink(us_socket_t *s);
void us_contexts_free_dead(us_loop_internal_t *internal);
void us_contexts_detach(us_loop_t *loop);  // the loop is freed before its contexts
void us_contexts_close_fds(us_loop_t *loop);  // after fork
