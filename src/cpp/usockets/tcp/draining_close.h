// tcp/draining_close.h - closed connections whose descriptor stays open until the peer has read the last bytes.
// Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

struct us_draining_t;

unsigned int us_draining_count(const us_loop_t *loop);
// Ends the oldest of them; false when there is none. If `fd` is given and the freed number is lower, *fd moves to that
// number, so that the numbers in use do not grow; the caller then owns the new descriptor instead of the old.
bool us_draining_make_room(us_loop_t *loop, int *fd);

// ---- for the socket layer ----

// Takes over fd if it returns true. `registered`: fd is in epoll, for another block.
bool us_drain_and_close(us_loop_t *loop, int fd, bool registered);
void us_draining_event(us_loop_t *loop, us_draining_t *draining);
uint64_t us_draining_next(const us_loop_internal_t *internal);  // the earliest deadline, 0 = none
void us_draining_expire(us_loop_t *loop);
void us_draining_free_all(us_loop_internal_t *internal);  // leaves epoll alone, which the parent of a fork uses
