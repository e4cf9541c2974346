// loop/poll.cpp - the epoll registration of a socket, and the meaning of an event on it.
//
// Level-triggered. `interest_` is the kernel's state; us_socket_update_interest() brings it in line with the socket's.
// A pause and the end of the peer leave the interest as it is until the next event: a pause that is resumed before more
// bytes arrive costs no system call.
//
// EPOLLERR and EPOLLHUP cannot be masked, so each state needs an action that ends them, or the loop would spin:
//   reading          read everything that was received; recv() then returns 0 or the error
//   paused           error: close. Hang-up: close, unless unread bytes remain; then stay out of epoll until resumed
//   peer has ended   both sides are done, or the peer reset: close
//   read shut down   close

#include "usockets/loop/poll.h"

#include "usockets/tcp/read.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/transport.h"
#include "usockets/tcp/write.h"

int us_epoll_set(us_loop_t *loop, int operation, int fd, uint32_t events, void *block, us_kind_t kind) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = (uint64_t) ((uintptr_t) block | (uintptr_t) kind);
    return us_sys_epoll_ctl(loop->internal_->epfd, operation, fd, &event);
}

int us_epoll_remove(us_loop_internal_t *internal, int fd) {
    epoll_event none{};  // Linux before 2.6.9 reads it
    return us_sys_epoll_ctl(internal->epfd, EPOLL_CTL_DEL, fd, &none);
}

void us_socket_update_interest(us_socket_t *s) {
    if (s->closed) {
        return;
    }
    const bool reading = us_socket_is_reading(s);
    const bool writing = s->blocked && !(s->flags_ & US_FLAG_EARLY_WRITE);
    const uint32_t wanted = (reading ? US_READ_INTEREST : 0) | (writing ? (uint32_t) EPOLLOUT : 0);
    int operation = EPOLL_CTL_MOD;
    if (s->flags_ & US_FLAG_UNREGISTERED) {
        if (!reading) {
            return;
        }
        operation = EPOLL_CTL_ADD;
    } else if (wanted == s->interest_) {
        return;
    }
    if (us_epoll_set(s->context->loop, operation, s->fd, wanted, s, US_KIND_SOCKET) != 0) {
        us_socket_fail(s);
        return;
    }
    s->flags_ &= ~US_FLAG_UNREGISTERED;
    s->interest_ = (uint16_t) wanted;
}

static bool has_unread(us_socket_t *s) {
    int unread = 0;
    return (s->flags_ & US_FLAG_UNREAD) || (ioctl(s->fd, FIONREAD, &unread) == 0 && unread > 0) ||
           (s->transport_state_ && s->context->transport_->pending(s));
}

[[gnu::cold]] static void on_hang_up(us_socket_t *s, uint32_t events) {
    if (us_socket_is_reading(s)) {
        us_socket_read(s, events);
        return;
    }
    const bool only_paused = !s->peer_ended && !s->read_shutdown;
    if (only_paused && !(events & EPOLLERR) && has_unread(s) &&
        us_epoll_remove(s->context->loop->internal_, s->fd) == 0) {
        s->flags_ |= US_FLAG_UNREGISTERED;
        s->interest_ = 0;
        return;
    }
    us_socket_close_broken(s);
}

// An event may be stale: an earlier event of the batch closed or adopted its socket. The old block is still allocated.
void us_socket_event(us_socket_t *s, uint32_t events) {
    s = us_socket_newest(s);
    if (s->closed || (s->flags_ & US_FLAG_FAILED)) {
        return;
    }
    if (events & (EPOLLERR | EPOLLHUP)) [[unlikely]] {
        on_hang_up(s, events);
        return;
    }
    if (events & EPOLLOUT) {
        us_socket_writable(s);
        s = us_socket_newest(s);
        if (s->closed) {
            return;
        }
    }
    if (events & US_READ_INTEREST) {
        if (us_socket_is_reading(s)) {
            if ((s->flags_ & (US_FLAG_UNREAD | US_FLAG_READY)) == (US_FLAG_UNREAD | US_FLAG_READY)) [[unlikely]] {
                return;  // run_ready() visits it in this iteration
            }
            us_socket_read(s, events);
        } else {
            us_socket_update_interest(s);
        }
    }
}
