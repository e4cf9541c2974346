// tcp/draining_close.h - closed connections whose descriptor stays open until the peer has read the last bytes.

#pragma once

#include "usockets/libusockets.h"

// Takes over fd if it returns true. `registered`: fd is in epoll, for another block.
bool us_drain_and_close(us_loop_t *loop, int fd, bool registered);
void us_draining_event(us_loop_t *loop, us_draining_t *draining);
uint64_t us_draining_next(const us_loop_internal_t *internal);  // the earliest deadline, 0 = none
void us_draining_expire(us_loop_t *loop);
void us_draining_free_dead(us_loop_internal_t *internal);
void us_draining_free_all(us_loop_internal_t *internal);
