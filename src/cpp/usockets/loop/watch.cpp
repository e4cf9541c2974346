// loop/watch.cpp - wake-up by another thread, and by descriptors of the layer above.
//
// Wake-up: any thread stores its work somewhere, then calls us_wakeup_loop(). The flag coalesces: only the caller that
// sets it writes to the eventfd; the loop clears it before it runs wakeup_cb. A caller that finds it set has stored its
// work before the loop clears it (release/acquire on the flag), so wakeup_cb sees that work: nothing is lost. The
// eventfd is edge-triggered and never read; each write is one more edge.
//
// A watch belongs to the loop until us_unwatch(). The descriptor belongs to the caller, which must unwatch before it
// closes the descriptor.

#include "usockets/loop/watch.h"

#include "usockets/loop/poll.h"

struct us_watch_t : us_deferred_free_t {
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
    if (us_sys_eventfd_signal(internal->wake_fd) < 0) {
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
    us_watch_t *watch = (us_watch_t *) us_alloc(sizeof(us_watch_t));
    *watch = {{}, loop, nullptr, nullptr, cb, user, fd, false};
    if (us_epoll_set(loop, EPOLL_CTL_ADD, fd, EPOLLIN, watch, US_KIND_WATCH) != 0) {
        us_keep_errno_t keep;
        free(watch);
        return nullptr;
    }
    us_list_push(loop->internal_->watches, watch);
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
    us_epoll_remove(internal, watch->fd);
    watch->dead = true;
    us_list_remove(internal->watches, watch);
    us_free_after_iteration(internal, watch);
}

void us_watches_free_all(us_loop_internal_t *internal) { us_free_list(internal->watches); }
