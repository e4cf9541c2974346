// loop/timer.h - the clock of a loop, its timers, and the one kernel timer that wakes it. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"
#include "usockets/loop/list.h"

constexpr uint64_t US_NS_PER_SECOND = 1'000'000'000;
constexpr uint64_t US_NS_PER_MS = 1'000'000;
// Bounds the lag of the kernel's stored clock: two ticks of 10 ms and stolen time.
constexpr uint64_t US_COARSE_LAG_NS = 50'000'000;

uint64_t us_monotonic_ns();  // the clock of all timers and timeouts; any thread

// ---- for the socket layer ----

struct us_timer_t : us_deferred_free_t {
    us_loop_t *loop;
    us_timer_t *prev, *next;
    void (*cb)(us_timer_t *);
    uint64_t due_ns, repeat_ns;  // due_ns 0: not set
    uint32_t ran_in_pass;
    bool fallthrough, closed;
};
static_assert(sizeof(us_timer_t) % 8 == 0);

// Cheap. Ahead of the clock by up to US_COARSE_LAG_NS, so that a deadline computed from it does not come early: expiry
// is decided by the exact clock.
void us_loop_refresh_tick(us_loop_t *loop);

bool us_timers_arm(us_loop_t *loop);  // false: the kernel timer could not be set
void us_timers_run(us_loop_t *loop);
void us_timers_free_all(us_loop_internal_t *internal);
