// tcp/draining_close.cpp - closed connections whose last bytes are still on their way to the peer.
//
// close() with unread input makes the kernel send a reset, and a reset destroys bytes that the peer has received but not
// read yet: typically the error page or the Close frame that explains the close. So when a connection has sent its FIN and
// its peer has not, its descriptor stays open here: input is discarded until the peer's FIN, an error, or two seconds. At
// most US_DRAINING_MAX at once; beyond that, and on any error, the descriptor is closed at once. The limit of connections
// counts them and ends the oldest to admit a new connection.
//
// They belong to the loop, in order of their deadlines (the same period for all), and do not keep it running.

#include "usockets/tcp/draining_close.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/read.h"

constexpr int US_DRAINING_MAX = 1024;
constexpr uint64_t US_DRAINING_NS = 2 * US_NS_PER_SECOND;

struct us_draining_t {
    us_draining_t *prev, *next;
    uint64_t deadline_ns;
    int fd;  // -1: on the dead list
};

// Returns the descriptor, which is not in epoll any more.
static int unlink_and_release(us_loop_internal_t *internal, us_draining_t *draining) {
    epoll_event none{};
    us_sys_epoll_ctl(internal->epfd, EPOLL_CTL_DEL, draining->fd, &none);
    const int fd = draining->fd;
    draining->fd = -1;
    (draining->prev ? draining->prev->next : internal->draining_head) = draining->next;
    (draining->next ? draining->next->prev : internal->draining_tail) = draining->prev;
    draining->next = internal->dead_draining;
    internal->dead_draining = draining;
    internal->num_draining--;
    return fd;
}

static void finish(us_loop_internal_t *internal, us_draining_t *draining) {
    us_sys_close(unlink_and_release(internal, draining));
}

bool us_drain_and_close(us_loop_t *loop, int fd, bool registered) {
    us_loop_internal_t *internal = loop->internal_;
    us_draining_t *draining =
        internal->num_draining < US_DRAINING_MAX ? (us_draining_t *) malloc(sizeof(us_draining_t)) : nullptr;
    if (!draining) {
        return false;
    }
    if (us_epoll_set(loop, registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, US_READ_INTEREST, draining,
                     US_KIND_DRAINING) != 0) {
        free(draining);
        return false;
    }
    *draining = {internal->draining_tail, nullptr, us_sys_now_ns() + US_DRAINING_NS, fd};
    (internal->draining_tail ? internal->draining_tail->next : internal->draining_head) = draining;
    internal->draining_tail = draining;
    internal->num_draining++;
    if (!internal->iterating) {
        us_timers_arm(loop);
    }
    return true;
}

void us_draining_event(us_loop_t *loop, us_draining_t *draining) {
    if (draining->fd < 0) {
        return;
    }
    for (int reads = 0; reads < US_READS_PER_EVENT; reads++) {
        const ssize_t n = us_sys_recv(draining->fd, loop->internal_->recv_buffer, LIBUS_RECV_BUFFER_LENGTH, 0);
        if (n > 0) {
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            finish(loop->internal_, draining);
        }
        return;
    }
}

unsigned int us_draining_count(const us_loop_t *loop) { return loop->internal_->num_draining; }

int us_draining_make_room(us_loop_t *loop, int *fd) {
    us_loop_internal_t *internal = loop->internal_;
    if (!internal->draining_head) {
        return 0;
    }
    const int old = unlink_and_release(internal, internal->draining_head);
    if (fd && old < *fd && us_sys_dup_to(*fd, old) == old) {
        us_sys_close(*fd);
        *fd = old;
    } else {
        us_sys_close(old);
    }
    return 1;
}

uint64_t us_draining_next(const us_loop_internal_t *internal) {
    return internal->draining_head ? internal->draining_head->deadline_ns : 0;
}

void us_draining_expire(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    while (internal->draining_head && internal->draining_head->deadline_ns <= internal->now_ns) {
        finish(internal, internal->draining_head);
    }
}

void us_draining_free_dead(us_loop_internal_t *internal) { us_free_list(internal->dead_draining); }

void us_draining_free_all(us_loop_internal_t *internal) {
    while (us_draining_t *draining = internal->draining_head) {
        internal->draining_head = draining->next;
        us_sys_close(draining->fd);
        free(draining);
    }
    internal->draining_tail = nullptr;
    internal->num_draining = 0;
    us_draining_free_dead(internal);
}
