// tcp/draining_close.cpp - closed connections whose last bytes are still on their way to the peer.
//
// close() with unread input makes the kernel send a reset, and a reset destroys bytes that the peer has received but
// not read yet: typically the error page or the Close frame that explains the close. So when a connection has sent its
// FIN and its peer has not, its descriptor stays open here: input is discarded until the peer's FIN, an error, or two
// seconds. At most US_DRAINING_MAX at once; beyond that, and on any error, the descriptor is closed at once. The limit
// of connections counts them and ends the oldest to admit a new connection.
//
// They belong to the loop, in order of their deadlines (the same period for all), and do not keep it running.

#include "usockets/tcp/draining_close.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/read.h"

#include <utility>

constexpr int US_DRAINING_MAX = 1024;
constexpr uint64_t US_DRAINING_NS = 2 * US_NS_PER_SECOND;

struct us_draining_t : us_deferred_free_t {
    us_draining_t *prev, *next;
    uint64_t deadline_ns;
    int fd;  // -1: released, for events of the same batch
};

// Returns the descriptor.
static int release(us_loop_internal_t *internal, us_draining_t *draining) {
    const int fd = draining->fd;
    draining->fd = -1;
    internal->draining.remove(draining);
    internal->num_draining--;
    us_free_after_iteration(internal, draining);
    return fd;
}

static void finish(us_loop_internal_t *internal, us_draining_t *draining) {
    us_epoll_remove(internal, draining->fd);
    us_sys_close(release(internal, draining));
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
    draining->deadline_ns = us_sys_now_ns() + US_DRAINING_NS;
    draining->fd = fd;
    internal->draining.append(draining);
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
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) {
                finish(loop->internal_, draining);
            }
            return;
        }
    }
}

unsigned int us_draining_count(const us_loop_t *loop) { return (unsigned) loop->internal_->num_draining; }

bool us_draining_make_room(us_loop_t *loop, int *fd) {
    us_loop_internal_t *internal = loop->internal_;
    us_draining_t *oldest = internal->draining.head;
    if (!oldest) {
        return false;
    }
    us_epoll_remove(internal, oldest->fd);
    int freed = release(internal, oldest);
    if (fd && freed < *fd && us_sys_dup3(*fd, freed, O_CLOEXEC) == freed) {
        std::swap(*fd, freed);
    }
    us_sys_close(freed);
    return true;
}

uint64_t us_draining_next(const us_loop_internal_t *internal) {
    return internal->draining.head ? internal->draining.head->deadline_ns : 0;
}

void us_draining_expire(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    while (internal->draining.head && internal->draining.head->deadline_ns <= internal->now_ns) {
        finish(internal, internal->draining.head);
    }
}

void us_draining_free_all(us_loop_internal_t *internal) {
    while (internal->draining.head) {
        us_sys_close(release(internal, internal->draining.head));
    }
}
