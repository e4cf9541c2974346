// loop/watch.h - wake-up by other threads, and by descriptors of the layer above. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

struct us_watch_t;

// Watches a descriptor for reading; does not keep the loop alive. NULL with errno on failure. The caller owns fd.
us_watch_t *us_watch(us_loop_t *loop, int fd, void (*cb)(void *user), void *user);
void us_unwatch(us_watch_t *watch);

// ---- for the socket layer ----

void us_watch_event(us_watch_t *watch);
void us_wake_event(us_loop_t *loop);
void us_watches_free_all(us_loop_internal_t *internal);
