// loop/loop.cpp - one iteration, and the deferred work that keeps callbacks simple.
//
// The loop owns epoll, the wake-up eventfd, the timerfd, the receive buffer, the lists of closed blocks. Order of an
// iteration: see us_loop_iterate() in libusockets.h. Four things are deferred and each has one place:
//   on_close     until the outermost callback has returned (us_run_deferred_closes, from us_dispatch_t)
//   pending      on_end after us_socket_shutdown_read(), and closing after a fatal write: after post_cb
//   ready        received or decrypted bytes beyond a visit's share: until the next iteration
//   memory       of closed blocks: until the end of the iteration
// Deferring works outside iterations, too (a foreign event loop calls in between): pending work then wakes the loop.
//
// After fork(), us_loop_abandon() in the child closes copies of descriptors and does nothing else: epoll_ctl there
// would change the parent's registrations.

#include "usockets/loop/loop.h"

#include "usockets/loop/poll.h"
#include "usockets/loop/watch.h"
#include "usockets/proxy/proxy.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/draining_close.h"
#include "usockets/tcp/listen.h"
#include "usockets/tcp/read.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/write.h"

#include <initializer_list>
#include <new>
#include <utility>

void us_out_of_memory() { throw std::bad_alloc(); }

void us_callback_threw(us_loop_t *loop, us_socket_t *s) {
    loop->internal_->on_failure();
    if (s) {
        s = us_socket_newest(s);
        us_socket_close(0, s, 0, nullptr);
        us_socket_push(s);  // so that the loop no longer refers to it
    }
}

us_loop_t *us_create_loop(void *, void (*wakeup_cb)(us_loop_t *), void (*pre_cb)(us_loop_t *),
                          void (*post_cb)(us_loop_t *), unsigned int ext_size) {
    us_loop_t *loop = (us_loop_t *) us_alloc_zeroed(sizeof(us_loop_t) + ext_size);
    us_loop_internal_t *internal = ::new (us_alloc(sizeof(us_loop_internal_t))) us_loop_internal_t;
    loop->internal_ = internal;
    internal->wakeup_cb = wakeup_cb;
    internal->pre_cb = pre_cb;
    internal->post_cb = post_cb;
    internal->recv_buffer =
        (char *) us_alloc(LIBUS_RECV_BUFFER_LENGTH + 2 * LIBUS_RECV_BUFFER_PADDING) + LIBUS_RECV_BUFFER_PADDING;
    internal->base_ns = us_sys_now_ns();
    us_loop_refresh(loop);
    internal->wheel.swept = loop->tick;

    if ((internal->epfd = us_sys_epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        (internal->wake_fd = us_sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
        (internal->timer_fd = us_sys_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) < 0 ||
        us_epoll_set(loop, EPOLL_CTL_ADD, internal->wake_fd, EPOLLIN | EPOLLET, nullptr, US_KIND_WAKE) != 0 ||
        us_epoll_set(loop, EPOLL_CTL_ADD, internal->timer_fd, EPOLLIN | EPOLLET, nullptr, US_KIND_TIMER) != 0) {
        loop->error = errno;
    }
    return loop;
}

void us_loop_on_release(us_loop_t *loop, void (*cb)(void *), void *user) { loop->internal_->on_release = {cb, user}; }

void us_loop_on_failure(us_loop_t *loop, void (*cb)(void *), void *user) { loop->internal_->on_failure = {cb, user}; }

void us_loop_on_change(us_loop_t *loop, void (*cb)(void *, us_socket_t *), void *user) {
    loop->internal_->on_change = {cb, user};
}

void us_loop_settle(us_loop_t *loop) {
    if (us_socket_t *s = std::exchange(loop->internal_->changed, nullptr)) {
        loop->internal_->on_change(s);
    }
}

void us_socket_changed(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    if (internal->changed != s && !s->closed) {
        us_loop_settle(s->context->loop);
        internal->changed = s;
    }
}

int us_loop_last_events(us_loop_t *loop) { return loop->internal_->last_events; }

int us_loop_fd(us_loop_t *loop) { return loop->internal_->epfd; }

void us_run_deferred_closes(us_loop_t *loop) {
    loop->phase = US_PHASE_NONE;
    while (us_socket_t *s = loop->internal_->closes.pop()) {
        if (s->on_close_due_ && s->context->cb.on_close) {
            s->on_close_due_ = 0;
            us_contain(loop, nullptr,
                       [s] { s->context->cb.on_close(s, s->pending_close_code_, s->pending_close_reason_); });
        }
    }
}

// Once per visit; `flag` notes that the socket is in the queue.
template <typename Queue>
static void add(us_loop_t *loop, Queue &queue, us_socket_t *s, us_flag_t flag) {
    if (s->flags_ & flag) {
        return;
    }
    s->flags_ |= flag;
    queue.push(s);
    if (!loop->internal_->iterating) {
        us_wakeup_loop(loop);
    }
}

void us_pending_add(us_socket_t *s) {
    us_loop_t *loop = s->context->loop;
    add(loop, loop->internal_->pending, s, US_FLAG_PENDING);
}

void us_ready_add(us_socket_t *s) {
    us_loop_t *loop = s->context->loop;
    if (!s->closed) {
        add(loop, loop->internal_->ready, s, US_FLAG_READY);
    }
}

// Terminates: each socket comes here at most twice (read_shutdown and US_FLAG_FAILED are set once).
static void run_pending(us_loop_internal_t *internal) {
    while (us_socket_t *s = internal->pending.pop()) {
        s->flags_ &= ~US_FLAG_PENDING;
        if (!s->closed) {
            us_contain(s->context->loop, s,
                       [s] { (s->flags_ & US_FLAG_FAILED) ? us_socket_read_last(s) : us_socket_deliver_end(s); });
        }
    }
}

// One visit each; a socket with more bytes is added to the queue again. A socket that a visit closes or moves stays
// allocated until the end of this iteration.
static void run_ready(us_loop_internal_t *internal) {
    auto visited = internal->ready;
    internal->ready = {};
    while (us_socket_t *s = visited.pop()) {
        s->flags_ &= ~US_FLAG_READY;
        us_contain(s->context->loop, s, [s] {
            if (s->flags_ & US_FLAG_FAILED) {
                if (!s->closed && !(s->flags_ & US_FLAG_PENDING)) {
                    us_socket_read_last(s);
                }
            } else if (!s->closed && us_socket_is_reading(s)) {
                us_socket_read(s, 0);
            }
        });
    }
}

// Before the closed blocks are freed. A foreign loop looks at the epoll descriptor only: the wake-up makes it readable.
static void keep_ready(us_loop_t *loop) {
    auto &ready = loop->internal_->ready;
    auto kept = ready;
    ready = {};
    while (us_socket_t *s = kept.pop()) {
        if (!s->closed) {
            ready.push(s);
        }
    }
    if (ready.head) {
        us_wakeup_loop(loop);
    }
}

static void free_dead(us_loop_internal_t *internal) {
    while (us_socket_t *s = internal->closed_blocks) {
        internal->closed_blocks = s->next_;
        us_socket_free_block(s);
    }
    us_free_list<us_deferred_free_t, &us_deferred_free_t::next_dead>(internal->dead_blocks);
    us_contexts_free_dead(internal);
}

// Wake-up and watches before sockets: work from other threads comes first.
static void dispatch_batch(us_loop_t *loop, int count) {
    us_loop_internal_t *internal = loop->internal_;
    auto kind = [internal](int i) { return (us_kind_t) (internal->events[i].data.u64 & 15); };
    auto block = [internal](int i) { return (void *) (uintptr_t) (internal->events[i].data.u64 & ~(uint64_t) 15); };
    for (int i = 0; i < count; i++) {
        if (kind(i) == US_KIND_WAKE) {
            us_contain(loop, nullptr, [loop] { us_wake_event(loop); });
        } else if (kind(i) == US_KIND_WATCH) {
            us_contain(loop, nullptr, [&] { us_watch_event((us_watch_t *) block(i)); });
        }
    }
    for (int i = 0; i < count; i++) {
        const uint32_t events = internal->events[i].events;
        switch (kind(i)) {
        case US_KIND_SOCKET:
            us_contain(loop, (us_socket_t *) block(i), [&] { us_socket_event((us_socket_t *) block(i), events); });
            break;
        case US_KIND_LISTENER:
            us_contain(loop, nullptr, [&] { us_listener_event((us_listen_socket_t *) block(i)); });
            break;
        case US_KIND_DRAINING:
            us_draining_event(loop, (us_draining_t *) block(i));
            break;
        case US_KIND_PROXIED:
            us_contain(loop, nullptr, [&] { us_proxied_event(loop, (us_proxied_t *) block(i)); });
            break;
        default:
            break;  // a timer, or above
        }
    }
}

int us_loop_iterate(us_loop_t *loop, int timeout_ms) {
    us_loop_internal_t *internal = loop->internal_;
    if (loop->error || internal->iterating || internal->epfd < 0) {
        return loop->num_polls;
    }
    internal->iterating = true;
    internal->iteration++;
    if (internal->pre_cb) {
        us_dispatch_t dispatch(loop, US_PHASE_NONE);
        us_contain(loop, nullptr, [&] { internal->pre_cb(loop); });
    }
    if (internal->pending.head || internal->ready.head) {
        timeout_ms = 0;
    }
    if (!us_timers_arm(loop) && (timeout_ms < 0 || timeout_ms > 1000)) {
        timeout_ms = 1000;  // without a kernel timer, poll
    }
    internal->on_release();
    const int count =
        us_sys_epoll_wait(internal->epfd, internal->events, US_EVENT_BATCH, timeout_ms);  // EINTR: an empty round
    internal->last_events = count;

    us_loop_refresh(loop);
    const uint32_t tick = loop->tick;
    us_timers_run(loop);
    dispatch_batch(loop, count);
    if (internal->ready.head) {
        run_ready(internal);
    }
    us_draining_expire(loop);
    us_proxied_expire(internal);
    us_wheel_sweep(loop, tick);

    internal->on_release();
    if (internal->post_cb) {
        us_dispatch_t dispatch(loop, US_PHASE_NONE);
        us_contain(loop, nullptr, [&] { internal->post_cb(loop); });
    }
    run_pending(internal);
    us_loop_settle(loop);
    if (internal->ready.head) {
        keep_ready(loop);
    }
    free_dead(internal);
    us_timers_arm(loop);
    internal->iterating = false;
    return loop->num_polls;
}

void us_loop_run(us_loop_t *loop) {
    while (!loop->error && loop->internal_->epfd >= 0 && loop->num_polls > 0) {
        us_loop_iterate(loop, -1);
    }
}

void us_loop_integrate(us_loop_t *loop) {
    us_loop_refresh(loop);
    us_timers_arm(loop);
}

static void close_own_fds(us_loop_internal_t *internal) {
    for (int *fd : {&internal->epfd, &internal->wake_fd, &internal->timer_fd}) {
        if (*fd >= 0) {
            us_sys_close(*fd);
            *fd = -1;
        }
    }
}

void us_loop_abandon(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    close_own_fds(internal);
    us_contexts_close_fds(loop);
    us_draining_free_all(internal);
    us_proxied_free_all(internal);
}

void us_loop_free(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    internal->iterating = false;
    us_contexts_detach(loop);
    free_dead(internal);
    us_timers_free_all(internal);
    us_draining_free_all(internal);
    us_watches_free_all(internal);
    close_own_fds(internal);
    free(internal->recv_buffer - LIBUS_RECV_BUFFER_PADDING);
    free(internal->next_recv_buffer);
    free(internal);
    free(loop);
}
