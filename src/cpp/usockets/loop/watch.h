// loop/watch.h - wake-up by other threads, and descriptors of the layer above.

#pragma once

#include "usockets/libusockets.h"

void us_watch_event(us_watch_t *watch);
void us_wake_event(us_loop_t *loop);
void us_watches_free_dead(us_loop_internal_t *internal);
void us_watches_free_all(us_loop_internal_t *internal);
