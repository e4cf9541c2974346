// tcp/draining_close.cpp - connections that are closed for us but whose last bytes are still on their way to the peer.
//
// close() with unread input makes the kernel answer with a reset, and a reset destroys what the peer has received but not
// read yet: typically the error page or the Close frame that explains the close. So a connection that has sent its FIN,
// and whose peer has not, hands its descriptor to one of these: input is thrown away until the peer's FIN, an error, or two
// seconds. At most US_LINGER_MAX at once; beyond that, and on any trouble, the descriptor is just closed. They have no
// claim to it: the limit of connections counts them, and ends the oldest for a newcomer.
//
// They are the loop's, in order of their deadlines (the same period for all), and do not keep it running.

#include "usockets/internal.h"

// The result is its descriptor, which no poll knows any more.
static int take_out(us_loop_internal_t *internal, us_linger_t *linger) {
    epoll_event none{};
    us_sys_epoll_ctl(internal->epfd, EPOLL_CTL_DEL, linger->fd, &none);
    const int fd = linger->fd;
    linger->fd = -1;
    (linger->prev ? linger->prev->next : internal->linger_head) = linger->next;
    (linger->next ? linger->next->prev : internal->linger_tail) = linger->prev;
    linger->next = internal->dead_lingers;
    internal->dead_lingers = linger;
    internal->num_lingers--;
    return fd;
}

static void finish(us_loop_internal_t *internal, us_linger_t *linger) { us_sys_close(take_out(internal, linger)); }

// Takes over fd on success. `registered`: it is in epoll, under another block's name.
bool us_linger(us_loop_t *loop, int fd, bool registered) {
    us_loop_internal_t *internal = loop->internal_;
    us_linger_t *linger = internal->num_lingers < US_LINGER_MAX ? (us_linger_t *) malloc(sizeof(us_linger_t)) : nullptr;
    if (!linger) {
        return false;
    }
    if (us_epoll_set(loop, registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, US_READ_INTEREST, linger, US_KIND_LINGER) !=
        0) {
        free(linger);
        return false;
    }
    *linger = {internal->linger_tail, nullptr, us_sys_now_ns() + US_LINGER_MS * US_NS_PER_MS, fd};
    (internal->linger_tail ? internal->linger_tail->next : internal->linger_head) = linger;
    internal->linger_tail = linger;
    internal->num_lingers++;
    if (!internal->iterating) {
        us_timers_arm(loop);
    }
    return true;
}

void us_linger_event(us_loop_t *loop, us_linger_t *linger) {
    if (linger->fd < 0) {
        return;
    }
    for (int reads = 0; reads < US_READS_PER_EVENT; reads++) {
        const ssize_t n = us_sys_recv(linger->fd, loop->internal_->recv_buffer, LIBUS_RECV_BUFFER_LENGTH, 0);
        if (n > 0) {
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            finish(loop->internal_, linger);
        }
        return;
    }
}

unsigned int us_lingering(const us_loop_t *loop) { return loop->internal_->num_lingers; }

int us_linger_make_room(us_loop_t *loop, int *fd) {
    us_loop_internal_t *internal = loop->internal_;
    if (!internal->linger_head) {
        return 0;
    }
    const int old = take_out(internal, internal->linger_head);
    if (fd && old < *fd && us_sys_dup_to(*fd, old) == old) {
        us_sys_close(*fd);
        *fd = old;
    } else {
        us_sys_close(old);
    }
    return 1;
}

void us_linger_expire(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    while (internal->linger_head && internal->linger_head->deadline_ns <= internal->now_ns) {
        finish(internal, internal->linger_head);
    }
}

void us_lingers_free_dead(us_loop_internal_t *internal) {
    while (us_linger_t *linger = internal->dead_lingers) {
        internal->dead_lingers = linger->next;
        free(linger);
    }
}

void us_lingers_free_all(us_loop_internal_t *internal) {
    while (us_linger_t *linger = internal->linger_head) {
        internal->linger_head = linger->next;
        us_sys_close(linger->fd);
        free(linger);
    }
    internal->linger_tail = nullptr;
    internal->num_lingers = 0;
    us_lingers_free_dead(internal);
}
