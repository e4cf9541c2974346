// loop/timer.cpp - us_timer_t, and the one kernel timer that wakes the loop for timers and timeouts.
//
// The timerfd is set to the earliest of: the next occupied wheel slot, the next timer that is not fallthrough, the
// oldest draining connection, the oldest connection without its PROXY header. It is only ever moved closer, or set
// again after it fired: a postponed target costs one idle wake-up instead of a system call per request. With no target
// it is left alone, so an idle process sleeps (after at most one such wake-up). It is edge-triggered and never read;
// setting it clears it.
//
// A loop owns its timers until they are closed. They are few, so those that are set are in one unordered list; the
// others, which no iteration has to visit, are in a second list. A pass runs each due timer once and starts over after
// every callback, as the callback may have set, cleared or closed any timer.

#include "usockets/loop/timer.h"

#include "usockets/loop/state.h"
#include "usockets/proxy/proxy.h"
#include "usockets/tcp/draining_close.h"

uint64_t us_monotonic_ns() { return us_sys_now_ns(); }

static uint32_t tick_at(const us_loop_internal_t *internal, uint64_t ns) {
    const uint64_t since = ns - internal->base_ns;  // modulo 2^64: tests move the base back, to before the boot
    return (int64_t) since > 0 ? (uint32_t) (since / US_NS_PER_SECOND) + 1 : 1;
}

void us_loop_refresh(us_loop_t *loop) {
    loop->internal_->now_ns = us_sys_now_ns();
    loop->tick = tick_at(loop->internal_, loop->internal_->now_ns);
}

void us_loop_refresh_tick(us_loop_t *loop) {
    loop->tick = tick_at(loop->internal_, us_sys_coarse_ns() + US_COARSE_LAG_NS);
}

static uint64_t next_target(us_loop_internal_t *internal) {
    uint64_t target = 0;
    auto consider = [&target](uint64_t at) {
        if (at && (!target || at < target)) {
            target = at;
        }
    };
    if (uint32_t tick = us_wheel_next(&internal->wheel)) {
        consider(internal->base_ns + (uint64_t) (tick - 1) * US_NS_PER_SECOND);
    }
    for (us_timer_t *t = internal->timers; t; t = t->next) {
        if (!t->fallthrough) {
            consider(t->due_ns);
        }
    }
    consider(us_draining_next(internal));
    consider(us_proxied_next(internal));
    return target;
}

bool us_timers_arm(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    const uint64_t target = next_target(internal);
    if (!target || (internal->armed_ns && internal->armed_ns <= target)) {
        return true;
    }
    const bool done = us_sys_timerfd_set(internal->timer_fd, target) == 0;
    internal->armed_ns = done ? target : 0;
    return done;
}

// The list that a timer is in.
static us_timer_t *&list_of(const us_timer_t *t) {
    us_loop_internal_t *internal = t->loop->internal_;
    return t->due_ns ? internal->timers : internal->unset_timers;
}

static void set_due(us_timer_t *t, uint64_t due_ns) {
    us_list_remove(list_of(t), t);
    t->due_ns = due_ns;
    us_list_push(list_of(t), t);
}

void us_timers_run(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    const uint64_t now = internal->now_ns;
    if (internal->armed_ns && internal->armed_ns <= now) {
        internal->armed_ns = 0;
    }
    const uint32_t pass = ++internal->timer_pass;
    for (us_timer_t *t = internal->timers; t;) {
        if (t->due_ns > now || t->ran_in_pass == pass) {
            t = t->next;
            continue;
        }
        t->ran_in_pass = pass;
        const uint64_t again = t->due_ns + t->repeat_ns;
        set_due(t, !t->repeat_ns ? 0 : again > now ? again : now + t->repeat_ns);  // missed rounds are skipped
        {
            us_dispatch_t dispatch(loop, US_PHASE_NONE);
            us_contain(loop, nullptr, [t] { t->cb(t); });
        }
        t = internal->timers;
    }
}

us_timer_t *us_create_timer(us_loop_t *loop, int fallthrough, unsigned int ext_size) {
    us_timer_t *t = (us_timer_t *) us_alloc_zeroed(sizeof(us_timer_t) + ext_size);
    t->loop = loop;
    t->fallthrough = fallthrough != 0;
    us_list_push(list_of(t), t);
    return t;
}

void *us_timer_ext(us_timer_t *timer) { return timer + 1; }

void us_timer_set(us_timer_t *timer, void (*cb)(us_timer_t *), int ms, int repeat_ms) {
    if (timer->closed) {
        return;
    }
    timer->cb = cb;
    timer->repeat_ns = repeat_ms > 0 ? (uint64_t) repeat_ms * US_NS_PER_MS : 0;
    set_due(timer, ms > 0 ? us_sys_now_ns() + (uint64_t) ms * US_NS_PER_MS : 0);
    if (!timer->fallthrough && !timer->loop->internal_->iterating) {
        us_timers_arm(timer->loop);
    }
}

void us_timer_close(us_timer_t *timer) {
    if (timer->closed) {
        return;
    }
    timer->closed = true;
    us_list_remove(list_of(timer), timer);
    us_free_after_iteration(timer->loop->internal_, timer);
}

void us_timers_free_all(us_loop_internal_t *internal) {
    us_free_list(internal->timers);
    us_free_list(internal->unset_timers);
}
