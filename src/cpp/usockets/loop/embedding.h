// loop/embedding.h - for a layer above that drives a loop from outside its callbacks. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// These two bracket work on the loop's thread outside the loop's callbacks: between them, closes are deferred as in any
// dispatch; the outermost leave runs them.
void us_loop_enter(us_loop_t *loop);
void us_loop_leave(us_loop_t *loop);
// The same, but leaves the deferred closes to the next dispatch; the caller must make sure that there is one.
void us_loop_leave_later(us_loop_t *loop);
// Outside an iteration, after such calls: sets the kernel's timer for new timers and timeouts. True if an iteration
// must run: to free closed blocks, or to end the loop.
bool us_loop_needs_turn(us_loop_t *loop);
bool us_loop_is_iterating(us_loop_t *loop);

// Allocates in advance for the next call of us_loop_take_recv_buffer(), which then cannot fail; false when out of
// memory.
bool us_loop_prepare_recv_buffer(us_loop_t *loop);
// Gives the loop a new receive buffer and returns the old one's memory, to be freed with free(): for a caller that must
// keep received bytes in place after its callback.
void *us_loop_take_recv_buffer(us_loop_t *loop);
// Holds the received bytes while on_data runs, unless they came through us_socket_deliver().
const char *us_loop_recv_buffer(us_loop_t *loop);
