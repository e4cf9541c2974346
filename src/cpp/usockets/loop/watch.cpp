// loop/watch.cpp - wake-up by another thread, and by descriptors of the layer above.
//
// Wake-up: any thread stores its work somewhere, then calls us_wakeup_loop(). The flag coalesces: only the caller that
// sets it writes to the eventfd; the loop clears it before it runs wakeup_cb. A caller that finds it set has stored its
// work before the loop clears it (release/acquire on the flag), so wakeup_cb sees that work: nothing is lost. The
// eventfd is edge-triggered and never read; each write is one more edge.
//
// A watch belongs to the loop until us_unwatch(); inside an iteration its memory stays until the end, as the event batch
// may refer to it. The descriptor belongs to the caller, which must unwatch before it closes the descriptor.

#include "usockets/loop/watch.h"

#include "usockets/loop/poll.h"

struct us_watch_t {
    us_loop_t *loop;
    us_watch_t *prev, *next;
    void (*cb)(void *);
    void *user;
    int fd;
    bool dead;
};

void us_wakeup_loop(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    if (internal->wake_fd < 0 || internal->wake_pending.exchange(true, std::memory_order_acq_rel)) {
        return;
    }
    int answer;
    do {
        answer = us_sys_eventfd_signal(internal->wake_fd);
    } while (answer < 0 && errno == EINTR);
    if (answer < 0) {
        internal->wake_pending.store(false, std::memory_order_release);  // so that the next caller tries again
    }
}

void us_wake_event(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    internal->wake_pending.exchange(false, std::memory_order_acq_rel);
    if (internal->wakeup_cb) {
        us_dispatch_t dispatch(loop, US_PHASE_NONE);
        internal->wakeup_cb(loop);
    }
}

us_watch_t *us_watch(us_loop_t *loop, int fd, void (*cb)(void *user), void *user) {
    us_loop_internal_t *internal = loop->internal_;
    us_watch_t *watch = (us_watch_t *) us_alloc(sizeof(us_watch_t));
    *watch = {loop, nullptr, internal->watches, cb, user, fd, false};
    if (us_epoll_set(loop, EPOLL_CTL_ADD, fd, EPOLLIN, watch, US_KIND_WATCH) != 0) {
        const int error = errno;
        free(watch);
        errno = error;
        return nullptr;
    }
    if (watch->next) {
        watch->next->prev = watch;
    }
    internal->watches = watch;
    return watch;
}

void us_watch_event(us_watch_t *watch) {
    if (!watch->dead) {
        us_dispatch_t dispatch(watch->loop, US_PHASE_NONE);
        watch->cb(watch->user);
    }
}

void us_unwatch(us_watch_t *watch) {
    if (watch->dead) {
        return;
    }
    us_loop_internal_t *internal = watch->loop->internal_;
    us_epoll_set(watch->loop, EPOLL_CTL_DEL, watch->fd, 0, watch, US_KIND_WATCH);
    watch->dead = true;
    (watch->prev ? watch->prev->next : internal->watches) = watch->next;
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    if (internal->iterating) {
        watch->next = internal->dead_watches;
        internal->dead_watches = watch;
    } else {
        free(watch);
    }
}

void us_watches_free_dead(us_loop_internal_t *internal) { us_free_list(internal->dead_watches); }

void us_watches_free_all(us_loop_internal_t *internal) {
    us_watches_free_dead(internal);
    us_free_list(internal->watches);
}
