// test_timing.cpp - the wheel over simulated ticks, socket timeouts, timers, and that an idle loop sleeps.
#include "server.h"
#include "usockets/loop/state.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

#include <algorithm>
#include <memory>
#include <random>

// A callback's tick is of a clock that is some milliseconds old.
TEST(deadlines_that_callbacks_set_are_not_early) {
    server_t server;
    const int fd = server.connect_client(1 << 16);
    us_loop_internal_t *internal = server.loop->internal_;
    int set = 0;
    server.http.data = [&](us_socket_t *s, char *, int) {
        const uint64_t now = us_sys_now_ns();
        us_socket_timeout(0, s, 1);
        const uint64_t due = internal->base_ns + (uint64_t) (s->deadline_ - 1) * US_NS_PER_SECOND;
        CHECK(due >= now + US_NS_PER_SECOND);
        CHECK(due <= us_sys_now_ns() + 2 * US_NS_PER_SECOND + US_COARSE_LAG_NS);
        set++;
    };
    const uint64_t base = internal->base_ns;
    for (int i = 1; i <= 200; i++) {
        // Just behind a full second, when the callback runs.
        internal->base_ns =
            us_sys_now_ns() - US_NS_PER_SECOND * (uint64_t) (i + 1) - (uint64_t) (i % 20) * US_NS_PER_MS / 4;
        say(fd, "x");
        server.pump([&] { return set == i; });
    }
    internal->base_ns = base;
    close(fd);
}

// Links thousands of fake sockets at random deadlines and moves the clock in random strides: each comes due once, in
// the first collection at or after its deadline, never before.
TEST(wheel_over_simulated_ticks) {
    std::mt19937 random(42);
    for (int round = 0; round < 40; round++) {
        auto wheel = std::make_unique<us_wheel_t>();
        memset((void *) wheel.get(), 0, sizeof(us_wheel_t));
        wheel->swept = random() % 5000 + 1;
        const uint32_t start = wheel->swept;
        std::vector<us_socket_t> sockets(500);
        std::vector<uint32_t> deadline(sockets.size());
        for (size_t i = 0; i < sockets.size(); i++) {
            deadline[i] = start + 1 + random() % (round % 2 ? 3000 : 200);
            us_wheel_link(wheel.get(), &sockets[i], deadline[i]);
        }
        CHECK_EQ(wheel->count, sockets.size());
        size_t left = sockets.size();
        uint32_t tick = start;
        while (left) {
            const uint32_t next = us_wheel_next(wheel.get());
            uint32_t earliest = UINT32_MAX;
            for (us_socket_t &s : sockets) {
                if (s.check_at_ && s.check_at_ < earliest) earliest = s.check_at_;
            }
            CHECK_EQ(next, earliest);
            const uint32_t previous = tick;
            tick = random() % 4 == 0 ? next : tick + 1 + random() % (round % 3 ? 50 : 1500);
            us_wheel_collect(wheel.get(), tick);
            while (us_socket_t *s = wheel->due) {
                us_wheel_unlink(wheel.get(), s);
                const size_t i = (size_t) (s - sockets.data());
                if (deadline[i] <= tick) {
                    CHECK(deadline[i] > previous); // not late by more than this stride
                    deadline[i] = UINT32_MAX;
                    left--;
                } else {
                    us_wheel_link(wheel.get(), s, deadline[i]); // from the farthest slot
                }
            }
        }
        CHECK_EQ(wheel->count, 0);
        CHECK_EQ(us_wheel_next(wheel.get()), 0);
        for (uint64_t word : wheel->occupied) CHECK_EQ(word, 0);
    }
}

TEST(wheel_unlink_and_relink_keep_the_bitmap_right) {
    us_wheel_t wheel{};
    wheel.swept = 100;
    us_socket_t a{}, b{};
    us_wheel_link(&wheel, &a, 150);
    us_wheel_link(&wheel, &b, 150);
    CHECK_EQ(us_wheel_next(&wheel), 150);
    us_wheel_unlink(&wheel, &a);
    CHECK_EQ(us_wheel_next(&wheel), 150);
    us_wheel_link(&wheel, &b, 101 + 1023 + 500); // beyond: farthest slot
    CHECK_EQ(b.check_at_, 100 + 1023);
    us_wheel_link(&wheel, &a, 3); // past: next slot
    CHECK_EQ(us_wheel_next(&wheel), 101);
    us_wheel_collect(&wheel, 101);
    CHECK(wheel.due == &a);
    us_wheel_unlink(&wheel, &a);
    us_wheel_unlink(&wheel, &a);
    CHECK_EQ(us_wheel_next(&wheel), 1123);
}

static double seconds_since(uint64_t start) { return (double) (us_sys_now_ns() - start) / 1e9; }

// All in one test, as each costs real time: when each fires, and that a pushed-out deadline does not fire at the old time.
TEST(timeouts_fire_never_early_and_at_most_a_second_late) {
    server_t server;
    const int a = server.connect_client();
    us_socket_t *one_second = server.http.last;
    const int b = server.connect_client();
    us_socket_t *pushed = server.http.last;
    const int c = server.connect_client();
    us_socket_t *hard = server.http.last;
    const int d = server.connect_client();
    us_socket_t *disarmed = server.http.last;
    const int e = server.connect_client();
    us_socket_t *rearmed_shorter = server.http.last;

    const uint64_t start = us_sys_now_ns();
    double one_at = 0, pushed_at = 0, hard_at = 0, shorter_at = 0;
    server.http.timeout = [&](us_socket_t *s) {
        CHECK_EQ(server.loop->phase, US_PHASE_TIMEOUT);
        CHECK_EQ(s->deadline_, 0);
        CHECK(s != disarmed && s != hard);
        (s == one_second ? one_at : s == pushed ? pushed_at : shorter_at) = seconds_since(start);
    };
    server.http.close = [&](us_socket_t *s, int, void *) {
        CHECK(s == hard);
        hard_at = seconds_since(start);
    };
    us_socket_timeout(0, one_second, 1);
    us_socket_timeout(0, pushed, 1);
    us_socket_timeout(0, pushed, 2);
    us_socket_timeout(0, hard, 60);
    us_socket_deadline(hard, 1);
    us_socket_arm(disarmed, 1);
    us_socket_timeout(0, disarmed, 0);
    us_socket_long_timeout(0, disarmed, 1);
    us_socket_timeout(0, rearmed_shorter, 900);
    us_socket_timeout(0, rearmed_shorter, 1);
    int iterations = 0;
    while (!pushed_at) {
        us_loop_iterate(server.loop, -1);  // wakes by itself, and not often
        CHECK(++iterations < 10);
    }
    CHECK(one_at >= 1 && one_at < 2.2);
    CHECK(shorter_at >= 1 && shorter_at < 2.2);
    CHECK(hard_at >= 1 && hard_at < 2.2);
    CHECK(pushed_at >= 2 && pushed_at < 3.2);
    CHECK_EQ(server.http.closed, 1);
    for (int fd : {a, b, c, d, e}) close(fd);
}

TEST(liveness_is_inbound_only_when_asked) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    server.http.context->inbound_liveness = true;
    const std::string big(4 << 20, 'x');
    us_socket_write(0, s, big.data(), (int) big.size(), 0);
    us_socket_timeout(0, s, 5);
    const uint32_t armed = s->deadline_;
    bool called = false;
    server.http.writable = [&](us_socket_t *w) {
        called = true;
        us_socket_timeout(0, w, 500);
        CHECK_EQ(w->deadline_, armed);
        us_socket_arm(w, 500);
        CHECK(w->deadline_ > armed);
    };
    server.pump([&] {
        hear(fd);
        return called;
    });
    close(fd);
}

TEST(pause_disarms_the_timeout) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_timeout(0, server.http.last, 1);
    us_socket_pause(server.http.last, US_PAUSE_USER);
    CHECK_EQ(server.http.last->deadline_, 0);
    close(fd);
}

// Callbacks of one sweep close and re-arm sockets that the same sweep has yet to visit.
TEST(sweep_survives_its_callbacks) {
    server_t server;
    std::vector<int> fds;
    for (int i = 0; i < 8; i++) {
        fds.push_back(server.connect_client());
        us_socket_timeout(0, server.http.last, 1);
    }
    int fired = 0;
    server.http.timeout = [&](us_socket_t *s) {
        fired++;
        us_socket_t *victim = s->next_ ? s->next_ : s->prev_;
        if (victim) us_socket_close(0, victim, 0, nullptr);
        us_socket_timeout(0, s, 100);
        us_socket_context_adopt_socket(0, server.http.context, s, 8);
    };
    server.pump([&] { return server.http.closed == 4; });
    CHECK_EQ(fired, 4);
    CHECK_EQ(server.http.context->num_sockets, 4);
    for (int fd : fds) close(fd);
}

// The clock of a loop that has not run for long is stale; arming from outside must not use it.
// However many are due at once, as when all have connected at once: a turn for the others after each burst.
TEST(sockets_that_are_due_together_have_several_turns) {
    server_t server;
    constexpr int COUNT = US_SWEEP_BURST + 100;
    std::vector<int> fds;
    for (int i = 0; i < COUNT; i++) fds.push_back(server.connect_client());
    server.pump([&] { return server.http.opened == COUNT; });
    int fired = 0;
    server.http.timeout = [&](us_socket_t *) { fired++; };
    us_socket_context_each(server.http.context, [](us_socket_t *s, void *) { us_socket_timeout(0, s, 5); }, nullptr);
    server.loop->internal_->base_ns -= 10 * US_NS_PER_SECOND;
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(fired, US_SWEEP_BURST);
    us_loop_iterate(server.loop, -1);  // does not wait
    CHECK_EQ(fired, COUNT);
    for (int fd : fds) close(fd);
}

TEST(arming_from_outside_uses_the_current_time) {
    server_t server;
    const int fd = server.connect_client();
    us_loop_internal_t *internal = server.loop->internal_;
    internal->base_ns -= 5000 * US_NS_PER_SECOND;  // as if 5000 s had passed
    us_socket_timeout(0, server.http.last, 10);
    int fired = 0;
    server.http.timeout = [&](us_socket_t *) { fired++; };
    for (int i = 0; i < 5; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(fired, 0);
    CHECK(server.http.last->deadline_ >= 5010);
    close(fd);
}

TEST(data_that_waits_beats_a_timeout_that_is_due) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_timeout(0, server.http.last, 10);
    say(fd, "alive");
    server.loop->internal_->base_ns -= 100 * US_NS_PER_SECOND;  // the thread was busy for 100 s
    server.http.data = [&](us_socket_t *s, char *, int) { us_socket_timeout(0, s, 10); };
    server.http.timeout = [](us_socket_t *) { CHECK(!"timed out with data waiting"); };
    us_loop_iterate(server.loop, 100);
    us_loop_iterate(server.loop, 0);
    close(fd);
}

struct ticker_t {
    int count = 0, limit = 0;
};

TEST(timers) {
    server_t server;
    us_timer_t *timer = us_create_timer(server.loop, 0, sizeof(ticker_t *));
    ticker_t ticker{0, 3};
    *(ticker_t **) us_timer_ext(timer) = &ticker;
    const uint64_t start = us_sys_now_ns();
    us_timer_set(timer, [](us_timer_t *t) {
        CHECK(t->loop->depth > 0);
        ticker_t *self = *(ticker_t **) us_timer_ext(t);
        if (++self->count == self->limit) us_timer_close(t);
    }, 20, 20);
    while (ticker.count < 3) us_loop_iterate(server.loop, -1);
    CHECK(us_sys_now_ns() - start >= 60'000'000);
    us_loop_iterate(server.loop, 30);
    CHECK_EQ(ticker.count, 3);

    us_timer_t *once = us_create_timer(server.loop, 0, sizeof(ticker_t *));
    *(ticker_t **) us_timer_ext(once) = &ticker;
    ticker = {};
    us_timer_set(once, [](us_timer_t *t) { (*(ticker_t **) us_timer_ext(t))->count++; }, 1, 0);
    server.pump([&] { return ticker.count == 1; });
    us_timer_set(once, once->cb, 1, 0);
    us_timer_set(once, once->cb, 0, 0);  // disarmed
    us_loop_iterate(server.loop, 10);
    CHECK_EQ(ticker.count, 1);
    us_timer_close(once);
}

TEST(timer_closes_another_in_the_same_pass) {
    server_t server;
    static us_timer_t *pair[2], *survivor;
    static int ran;
    ran = 0;
    for (us_timer_t *&t : pair) {
        t = us_create_timer(server.loop, 0, 0);
        us_timer_set(t, [](us_timer_t *self) {
            ran++;
            survivor = self;
            us_timer_close(self == pair[0] ? pair[1] : pair[0]);
        }, 1, 1000);
    }
    usleep(3000);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(ran, 1);
    us_timer_close(survivor);
}

// Linked while it is set, only: an iteration visits no other.
static int linked(us_timer_t *t) {
    int count = 0;
    for (us_timer_t *other = t->loop->internal_->timers; other; other = other->next) count += other == t;
    return count;
}

TEST(timers_that_are_not_set_are_not_visited) {
    server_t server;
    us_timer_t *timer = us_create_timer(server.loop, 0, 0);
    CHECK_EQ(linked(timer), 0);
    for (int i = 0; i < 3; i++) {
        us_timer_set(timer, [](us_timer_t *) {}, 1000, 0);
        CHECK_EQ(linked(timer), 1);
    }
    us_timer_set(timer, timer->cb, 0, 0);
    us_timer_set(timer, timer->cb, 0, 0);
    CHECK_EQ(linked(timer), 0);
    us_timer_set(timer, [](us_timer_t *t) { CHECK_EQ(linked(t), 0); }, 1, 0);  // it has run out
    usleep(2000);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(linked(timer), 0);
    us_create_timer(server.loop, 0, 0);  // the loop frees both
}

// Timers that set, clear and close themselves and each other, while they are due in one pass.
TEST(timers_change_each_other_in_the_same_pass) {
    enum { COUNT = 5 };
    static us_timer_t *timers[COUNT];
    static int runs[COUNT], acting;
    static std::mt19937 random(7);
    static auto act = [](us_timer_t *self) {
        runs[std::find(timers, timers + COUNT, self) - timers]++;
        for (us_timer_t *&t : timers) {
            switch (acting ? random() % 5 : 4) {
            case 0:
                us_timer_set(t, t->cb, 0, 0);
                break;
            case 1:
                us_timer_set(t, t->cb, 1, 0);
                break;
            case 2:
                us_timer_set(t, t->cb, 1, 1);
                break;
            case 3:
                us_timer_close(t);
                t = us_create_timer(self->loop, 0, 0);
                us_timer_set(t, self->cb, 1, 0);
            }
        }
    };
    server_t server;
    for (us_timer_t *&t : timers) t = us_create_timer(server.loop, 0, 0);
    for (int round = 0; round < 200; round++) {
        acting = round % 4;
        memset(runs, 0, sizeof(runs));
        for (us_timer_t *t : timers) us_timer_set(t, [](us_timer_t *self) { act(self); }, 1, 0);
        usleep(1100);
        us_loop_iterate(server.loop, 0);
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(linked(timers[i]), timers[i]->due_ns != 0);
            CHECK(acting ? runs[i] <= 1 : runs[i] == 1);
        }
    }
}

TEST(fallthrough_timer_never_wakes_the_loop) {
    server_t server;
    static int ran;
    ran = 0;
    us_timer_t *date = us_create_timer(server.loop, 1, sizeof(void *));
    us_timer_set(date, [](us_timer_t *) { ran++; }, 1, 1);
    usleep(5000);
    pollfd p{us_loop_fd(server.loop), POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 20), 0);
    us_wakeup_loop(server.loop);
    us_loop_iterate(server.loop, -1);
    CHECK_EQ(ran, 1);
    us_timer_close(date);
}

TEST(idle_loop_arms_nothing) {
    server_t server;
    count_calls_t count;
    for (int i = 0; i < 5; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(count[US_SYS_TIMERFD_SETTIME], 0);
    us_loop_integrate(server.loop);
    us_loop_integrate(server.loop);
    CHECK_EQ(count[US_SYS_TIMERFD_SETTIME], 0);
}

TEST(busy_connection_costs_no_timer_calls) {
    server_t server;
    const int fd = server.connect_client();
    server.http.data = [](us_socket_t *s, char *, int) { us_socket_timeout(0, s, 120); };
    say(fd, "x");
    us_loop_iterate(server.loop, 100);
    count_calls_t count;
    for (int i = 0; i < 100; i++) {
        say(fd, "x");
        us_loop_iterate(server.loop, 100);
    }
    CHECK_EQ(count[US_SYS_TIMERFD_SETTIME], 0);
    CHECK_EQ(count[US_SYS_RECV], 100);  // one read per message,
    CHECK_EQ(count[US_SYS_EPOLL_WAIT], 100);  // one wait,
    CHECK_EQ(count[US_SYS_EPOLL_CTL], 0);  // and nothing else
    close(fd);
}
