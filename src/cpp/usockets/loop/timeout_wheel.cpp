// loop/timeout_wheel.cpp - the timeouts of sockets: a lazy timing wheel of 1-second slots.
//
// A socket is linked into the slot of its earliest deadline. Postponing a deadline (every chunk of data does) is only a
// store: the socket stays in its slot, and when the slot is due, its real deadlines are checked and it is linked again.
// Bringing one forward relinks. So a busy connection costs one relink per timeout period, not per message.
//
// Never early: a deadline is tick + seconds + 1, in ticks of one second; at most a second late. Deadlines beyond the
// wheel wait in its farthest slot. Invariant: check_at_ is 0 (not linked), US_WHEEL_DUE (in `due`, the sweep's work
// list) or the tick of the slot, and no later than any armed deadline, except that a deadline in the past or in the
// swept part goes to the next slot.
//
// A sweep first moves the sockets of all slots that have passed to `due` and then handles one at a time, as callbacks
// may close, adopt and re-arm any socket, including those still in `due`. One iteration handles US_SWEEP_BURST of them:
// clients that connected in the same second are due in the same second, too.

#include "usockets/loop/timeout_wheel.h"

#include "usockets/loop/state.h"

#include <algorithm>

constexpr uint32_t MASK = US_WHEEL_SLOTS - 1;

static us_socket_t *&list_of(us_wheel_t *wheel, const us_socket_t *s) {
    return s->check_at_ == US_WHEEL_DUE ? wheel->due : wheel->slots[s->check_at_ & MASK];
}

static void push(us_wheel_t *wheel, us_socket_t *s, uint32_t at) {
    s->check_at_ = at;
    us_list_push<us_socket_t, &us_socket_t::wheel_prev_, &us_socket_t::wheel_next_>(list_of(wheel, s), s);
    if (at != US_WHEEL_DUE) {
        wheel->occupied[(at & MASK) / 64] |= 1ull << (at & 63);
    }
    wheel->count++;
}

void us_wheel_unlink(us_wheel_t *wheel, us_socket_t *s) {
    if (!s->check_at_) {
        return;
    }
    us_socket_t *&list = list_of(wheel, s);
    us_list_remove<us_socket_t, &us_socket_t::wheel_prev_, &us_socket_t::wheel_next_>(list, s);
    if (!list && s->check_at_ != US_WHEEL_DUE) {
        wheel->occupied[(s->check_at_ & MASK) / 64] &= ~(1ull << (s->check_at_ & 63));
    }
    s->check_at_ = 0;
    wheel->count--;
}

void us_wheel_link(us_wheel_t *wheel, us_socket_t *s, uint32_t deadline) {
    us_wheel_unlink(wheel, s);
    push(wheel, s, std::clamp(deadline, wheel->swept + 1, wheel->swept + MASK));
}

void us_wheel_collect(us_wheel_t *wheel, uint32_t tick) {
    if (tick <= wheel->swept) {
        return;
    }
    const uint32_t steps =
        std::min<uint32_t>(tick - wheel->swept, US_WHEEL_SLOTS);  // after a long sleep, each slot once
    for (uint32_t i = 1; i <= steps && wheel->count; i++) {
        us_socket_t **slot = &wheel->slots[(wheel->swept + i) & MASK];
        while (us_socket_t *s = *slot) {
            us_wheel_unlink(wheel, s);
            push(wheel, s, US_WHEEL_DUE);
        }
    }
    wheel->swept = tick;
}

uint32_t us_wheel_next(const us_wheel_t *wheel) {
    if (!wheel->count) {
        return 0;
    }
    const uint32_t first = wheel->swept + 1;
    for (uint32_t step = 0; step < US_WHEEL_SLOTS;) {
        const uint32_t slot = (first + step) & MASK;
        const uint64_t word = wheel->occupied[slot / 64] >> (slot & 63);
        if (word) {
            return first + step + (uint32_t) __builtin_ctzll(word);
        }
        step += 64 - (slot & 63);  // to the next word; the last word is the rest of the first
    }
    return 0;  // everything is in `due`
}

// 0: no deadline is armed.
static uint32_t earliest(const us_socket_t *s) {
    return std::min({s->deadline_ - 1, s->long_deadline_ - 1, s->hard_deadline_ - 1}) + 1;  // 0 wraps to the latest
}

void us_wheel_relink(us_socket_t *s) {
    us_loop_t *loop = s->context->loop;
    us_wheel_t *wheel = &loop->internal_->wheel;
    const uint32_t at = earliest(s);
    if (s->check_at_ == US_WHEEL_DUE || s->check_at_ == at) {
        return;  // its deadlines will be checked anyway
    }
    if (!at) {
        us_wheel_unlink(wheel, s);
        return;
    }
    if (!wheel->count) {
        wheel->swept = loop->tick;  // an empty wheel needs no sweeping
    }
    us_wheel_link(wheel, s, at);
    if (!loop->internal_->iterating) {
        us_timers_arm(loop);
    }
}

static void set_deadline(us_socket_t *s, uint32_t us_socket_t::*which, unsigned int seconds) {
    if (s->closed) {
        return;
    }
    us_loop_t *loop = s->context->loop;
    if (loop->depth == 0) {
        us_loop_refresh(loop);
    }
    s->*which = seconds ? loop->tick + seconds + 1 : 0;
    if (seconds && (s->check_at_ == 0 || s->*which < s->check_at_)) {
        us_wheel_relink(s);
    }
}

void us_socket_arm(us_socket_t *s, unsigned int seconds) { set_deadline(s, &us_socket_t::deadline_, seconds); }

void us_socket_arm_long(us_socket_t *s, unsigned int seconds) {
    set_deadline(s, &us_socket_t::long_deadline_, seconds);
}

void us_socket_deadline(us_socket_t *s, unsigned int seconds) {
    set_deadline(s, &us_socket_t::hard_deadline_, seconds);
}

void us_socket_long_timeout(int, us_socket_t *s, unsigned int minutes) { us_socket_arm_long(s, minutes * 60); }

unsigned int us_socket_long_left(const us_socket_t *s) {
    const uint32_t next = s->context->loop->tick + 1;
    return s->long_deadline_ > next ? s->long_deadline_ - next : s->long_deadline_ ? 1 : 0;
}

static void call(us_loop_t *loop, us_socket_t *s, us_on_event_t callback) {
    if (callback) {
        us_dispatch_t dispatch(loop, US_PHASE_TIMEOUT);
        us_contain(loop, s, [=] { callback(s); });
    }
}

// Handles a socket whose slot is due. Each deadline is disarmed before its callback, which may arm it again.
static void fire(us_loop_t *loop, us_socket_t *s, uint32_t tick) {
    if (s->hard_deadline_ && s->hard_deadline_ <= tick) {
        us_socket_close(0, s, 0, nullptr);
        return;
    }
    const bool is_due = s->deadline_ && s->deadline_ <= tick;
    const bool is_long_due = s->long_deadline_ && s->long_deadline_ <= tick;
    if (is_due) {
        s->deadline_ = 0;
    }
    if (is_long_due) {
        s->long_deadline_ = 0;
    }
    us_wheel_relink(s);
    if (is_due) {
        call(loop, s, s->context->cb.on_timeout);
    }
    if (is_long_due && !s->closed) {
        call(loop, s, s->context->cb.on_long_timeout);
    }
}

void us_wheel_sweep(us_loop_t *loop, uint32_t tick) {
    us_wheel_t *wheel = &loop->internal_->wheel;
    us_wheel_collect(wheel, tick);
    for (int fired = 0; wheel->due; fired++) {
        if (fired == US_SWEEP_BURST) {
            us_wakeup_loop(loop);  // the rest in the next iteration, after other events
            return;
        }
        us_socket_t *s = wheel->due;
        us_wheel_unlink(wheel, s);
        fire(loop, s, tick);
    }
}
