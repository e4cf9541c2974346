// tcp/socket.cpp - the life of a socket: made, moved to another context, closed.
//
// For the kernel and the lists, a socket is closed at once; on_close is deferred (until the outermost callback has
// returned), and so is freeing (until the end of the iteration), because uWebSockets reads a block after it has closed
// it. Order in us_socket_close(): epoll and the descriptor, then the flag and the lists, then the on_close queue.
//
// Adopt always moves: the old block stays, closed, with `moved_to` pointing to the new one, which events and callers
// with the old pointer follow. Only the new block owns the descriptor, the unsent tail and the transport state.

#include "usockets/tcp/socket.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/draining_close.h"
#include "usockets/tcp/read.h"
#include "usockets/tcp/transport.h"
#include "usockets/tcp/write.h"

#include <atomic>

void us_socket_free_block(us_socket_t *s) {
    if (s->transport_state_) {
        s->context->transport_->free_state(s);
    }
    us_socket_drop_unread(s);
    free(s->unsent_tail_);
    free(s);
}

us_socket_t *us_socket_new(us_socket_context_t *context, int fd, unsigned int ext_size) {
    us_socket_t *s = (us_socket_t *) malloc(sizeof(us_socket_t) + ext_size);
    if (!s) {
        return nullptr;
    }
    memset((void *) s, 0, sizeof(us_socket_t));
    s->context = context;
    s->fd = fd;
    s->interest_ = US_READ_INTEREST;
    if ((context->transport_ && context->transport_->open(s) != 0) ||
        us_epoll_set(context->loop, EPOLL_CTL_ADD, fd, US_READ_INTEREST, s, US_KIND_SOCKET) != 0) {
        us_keep_errno_t keep;
        us_socket_free_block(s);
        return nullptr;
    }
    us_context_link(s);
    return s;
}

void us_socket_set_address(us_socket_t *s, const sockaddr_storage *address) {
    if (address->ss_family == AF_INET) {
        const sockaddr_in *v4 = (const sockaddr_in *) address;
        memcpy(s->ip, &v4->sin_addr, 4);
        s->ip_length = 4;
        s->remote_port = ntohs(v4->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const sockaddr_in6 *v6 = (const sockaddr_in6 *) address;
        memcpy(s->ip, &v6->sin6_addr, 16);
        s->ip_length = 16;
        s->remote_port = ntohs(v6->sin6_port);
    }
}

void us_socket_open(us_socket_t *s) {
    if (s->context->transport_) {
        s->context->transport_->opened(s);
    }
    if (s->context->cb.on_open) {
        us_dispatch_t dispatch(s->context->loop, US_PHASE_OPEN);
        s->context->cb.on_open(s, 0, (char *) s->ip, s->ip_length);
    }
}

// For a descriptor that was accepted elsewhere; pre-open hooks do not exist here.
us_socket_t *us_adopt_accepted_socket(int, us_socket_context_t *context, int fd, unsigned int ext_size, char *ip,
                                      int ip_length) {
    us_socket_t *s = us_sys_make_nonblocking(fd) == 0 ? us_socket_new(context, fd, ext_size) : nullptr;
    if (!s) {
        return nullptr;
    }
    if (ip && (ip_length == 4 || ip_length == 16)) {
        memcpy(s->ip, ip, (size_t) ip_length);
        s->ip_length = (uint8_t) ip_length;
    }
    us_socket_open(s);
    return us_socket_newest(s);
}

void us_socket_free_later(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    s->next_ = internal->closed_blocks;
    internal->closed_blocks = s;
}

// Removes s from every list except pending and ready, whose visits skip closed sockets. The caller owns the descriptor.
static void unlink_all(us_socket_t *s) {
    us_loop_t *loop = s->context->loop;
    // Other threads may read it: Request.answered does.
    std::atomic_ref(s->closed).store(true, std::memory_order_relaxed);
    us_wheel_unlink(&loop->internal_->wheel, s);
    s->deadline_ = s->long_deadline_ = s->hard_deadline_ = 0;
    us_socket_unblock(s);
    us_context_unlink(s);
    if (loop->internal_->changed == s) {
        loop->internal_->changed = nullptr;
    }
    s->fd = -1;
    us_socket_free_later(s);
}

// Removes fd from epoll explicitly: if a forked child has a copy of the descriptor, close() would leave the
// registration, with its pointer to this block, in place.
static void release_fd(us_socket_t *s, bool may_drain) {
    if (s->fd < 0) {
        return;  // abandoned after fork
    }
    us_loop_t *loop = s->context->loop;
    const bool registered = !(s->flags_ & US_FLAG_UNREGISTERED);
    if (s->transport_state_) {
        s->context->transport_->close(s);
    }
    if (s->flags_ & US_FLAG_RESET) {
        us_sys_reset_on_close(s->fd);
        may_drain = false;
    }
    const bool fin_expected = !s->peer_ended || s->transport_state_;  // close_notify may have come without it
    if (may_drain && s->shut_down && fin_expected && !(s->flags_ & US_FLAG_FAILED)) {
        const bool fin_sent = (s->flags_ & US_FLAG_FIN_SENT) || us_sys_shutdown(s->fd, SHUT_WR) == 0;
        if (fin_sent && us_drain_and_close(loop, s->fd, registered)) {
            return;
        }
    }
    if (registered) {
        us_epoll_remove(loop->internal_, s->fd);
    }
    us_sys_close(s->fd);
}

us_socket_t *us_socket_close(int, us_socket_t *s, int code, void *reason) {
    if (s->closed) {
        return s;
    }
    us_loop_t *loop = s->context->loop;
    us_dispatch_t dispatch(loop, US_PHASE_NONE);  // outside a callback, on_close runs when this ends
    us_socket_push(s);  // a reset would drop the bytes that the kernel delays
    release_fd(s, true);
    unlink_all(s);
    us_socket_drop_unread(s);
    s->pending_close_code_ = code;
    s->pending_close_reason_ = reason;
    s->on_close_due_ = 1;
    loop->internal_->closes.push(s);
    return s;
}

void us_socket_reset(us_socket_t *s) {
    s->flags_ |= US_FLAG_RESET;
    us_socket_close(0, s, 0, nullptr);
}

void us_socket_close_delivering(us_socket_t *s) {
    s->shut_down = s->shut_down || us_socket_unacknowledged(s);
    us_socket_close(0, s, 0, nullptr);
}

void us_socket_discard(us_socket_t *s) {
    if (!s->closed) {
        release_fd(s, false);
        unlink_all(s);
    }
}

void us_socket_close_broken(us_socket_t *s) {
    s->flags_ |= US_FLAG_FAILED;
    us_socket_close(0, s, 0, nullptr);
}

void us_socket_close_refused(us_socket_t *s) {
    s->shut_down = true;  // its alert is written
    us_socket_close(0, s, 0, nullptr);
}

void us_socket_fail(us_socket_t *s) {
    if (!(s->flags_ & US_FLAG_FAILED)) {
        s->flags_ |= US_FLAG_FAILED;
        us_pending_add(s);
    }
}

void us_socket_shutdown_read(int, us_socket_t *s) {
    if (!s->closed && !s->read_shutdown) {
        s->read_shutdown = true;
        us_pending_add(s);
    }
}

us_socket_t *us_socket_context_adopt_socket(int, us_socket_context_t *context, us_socket_t *s, int ext_size) {
    us_socket_t *moved = (us_socket_t *) us_alloc(sizeof(us_socket_t) + (size_t) ext_size);
    *moved = s->closed ? us_socket_t{} : *s;
    moved->context = context;
    moved->fd = s->fd;
    if (s->closed) {
        moved->closed = true;
        us_socket_free_later(moved);
        return moved;
    }
    moved->deadline_ = moved->long_deadline_ = moved->hard_deadline_ = moved->check_at_ = 0;
    moved->flags_ &= ~(US_FLAG_PENDING | US_FLAG_READY);
    if (s->flags_ & US_FLAG_UNREAD) {
        s->pending_close_reason_ = nullptr;
        s->flags_ &= ~US_FLAG_UNREAD;
    }
    s->charged = 0;
    s->unsent_tail_ = nullptr;
    s->transport_state_ = nullptr;
    s->blocked = false;  // counted once, for the new block
    s->moved_to = moved;
    unlink_all(s);
    us_context_link(moved);
    us_socket_changed(moved);
    if (s->flags_ & US_FLAG_PENDING) {
        us_pending_add(moved);
    }
    if (s->flags_ & US_FLAG_READY) {
        us_ready_add(moved);
    }
    if (!(moved->flags_ & US_FLAG_UNREGISTERED) &&
        us_epoll_set(context->loop, EPOLL_CTL_MOD, moved->fd, moved->interest_, moved, US_KIND_SOCKET) != 0) {
        us_socket_fail(moved);  // an event may still refer to the old block, which is freed after this one is closed
    }
    return moved;
}

void *us_socket_get_native_handle(int, us_socket_t *s) {
    const us_transport_t *transport = s->context->transport_;
    return transport ? transport->native_handle(s) : (void *) (intptr_t) s->fd;
}

void us_socket_remote_address(int, us_socket_t *s, char *buf, int *length) {
    if (*length < s->ip_length) {
        *length = 0;
        return;
    }
    memcpy(buf, s->ip, s->ip_length);
    *length = s->ip_length;
}

int us_socket_remote_port(int, us_socket_t *s) { return s->ip_length ? s->remote_port : -1; }

int us_socket_local_port(int, us_socket_t *s) {
    sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (s->fd < 0 || us_sys_getsockname(s->fd, (sockaddr *) &address, &length) != 0) {
        return -1;
    }
    us_socket_t local{};
    us_socket_set_address(&local, &address);
    return us_socket_remote_port(0, &local);
}
