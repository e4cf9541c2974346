// tcp/write.cpp - bytes from the layer above to the kernel.
//
// Nothing here calls back. A write that the kernel takes only in part sets `blocked`: until EPOLLOUT says otherwise,
// further writes answer 0 without a system call, as uWebSockets retries its whole backlog at every send (defect S9).
//
// The spill holds bytes that a write has claimed as taken although the kernel has not: the rest of a short msg_more write
// (uWebSockets would lose what follows it, S2) and the header plus one byte of a write2 (it would lose the payload, S1).
// Invariants: a spill implies blocked; it goes out before anything else, before on_writable and before FIN; it is small
// (US_SPILL_MAX, plus write2 headers) and freed when empty. A fatal error dooms the socket: writes answer 0 and the loop
// closes it at the end of the iteration.
//
// MSG_MORE is used between us_socket_hold() and us_socket_push() only: a follow-up that never comes would hold the last
// segment back for 200 ms.

#include "usockets/internal.h"

static constexpr uint32_t MAX_WRITE =
    1u << 30;  // lengths arrive as int made from size_t: read as unsigned, then clamped

static inline bool means_later(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }

[[gnu::noinline]] void us_socket_block(us_socket_t *s) {
    s->blocked = true;
    s->context->loop->num_blocked++;
    us_socket_update_interest(s);
}

void us_socket_unblock(us_socket_t *s) {
    if (s->blocked) {
        s->blocked = false;
        s->context->loop->num_blocked--;
    }
}

static void spill(us_socket_t *s, const char *data, uint32_t length) {
    us_spill_t *old = s->spill_;
    const uint32_t used = old ? old->length : 0;
    if (!old || old->capacity - used < length) {
        const uint32_t capacity = used + length;
        us_spill_t *grown = (us_spill_t *) us_alloc(sizeof(us_spill_t) + capacity);
        *grown = {used, old ? old->offset : 0, capacity};
        if (old) {
            memcpy(grown->data(), old->data(), used);
            free(old);
        }
        s->spill_ = grown;
    }
    memcpy(s->spill_->data() + used, data, length);
    s->spill_->length = used + length;
}

static inline size_t spilled(const us_socket_t *s) { return s->spill_ ? s->spill_->length - s->spill_->offset : 0; }

size_t us_socket_spilled(us_socket_t *s) {
    return spilled(s) + (s->transport_state_ ? s->context->transport_->unsent(s) : 0);
}

size_t us_socket_unacknowledged(us_socket_t *s) {
    int bytes = 0;
    return !s->closed && ioctl(s->fd, TIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t) bytes : 0;
}

uint64_t us_socket_taken(us_socket_t *s) {
    const size_t unsent = s->transport_state_ ? s->context->transport_->unsent(s) : 0;
    return s->written_ - unsent - us_socket_unacknowledged(s);
}

unsigned int us_socket_unheard_seconds(us_socket_t *s) {
    tcp_info info{};
    return !s->closed && us_sys_tcp_info(s->fd, &info) == 0 ? info.tcpi_last_ack_recv / 1000 : 0;
}

// MSG_MORE or 0 for the next write, which decides whether there is something to be pushed.
static inline int more_flag(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    if (internal->held == s) [[unlikely]] {
        internal->unpushed = s;
        return MSG_MORE;
    }
    if (internal->unpushed == s) [[unlikely]] {
        internal->unpushed = nullptr;
    }
    return 0;
}

void us_socket_hold(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    if (us_socket_t *other = internal->unpushed) {
        us_socket_push(other);
    }
    internal->held = s;
}

void us_socket_release(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    if (internal->held == s) {
        internal->held = nullptr;
    }
}

// What is blocked needs no push: the kernel sends that when it makes room. Not all sockets are TCP.
void us_socket_push(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    us_socket_release(s);
    if (internal->unpushed == s) {
        internal->unpushed = nullptr;
        if (!s->closed && !(s->flags_ & US_FLAG_FIN_SENT)) {
            us_sys_setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, 1);  // set already: it sends what waits
        }
    }
}

// Bytes taken; short sets `blocked`, fatal dooms. The socket is open, not shut down and not blocked.
static inline uint32_t put(us_socket_t *s, const char *data, uint32_t length) {
    for (;;) {
        const us_transport_t *transport = s->context->transport_;
        const ssize_t n = transport ? transport->send(s, data, length) : us_sys_send(s->fd, data, length, more_flag(s));
        if (n == (ssize_t) length) [[likely]] {
            us_count_written(s, n);
            if (transport && transport->unsent(s)) {
                us_socket_block(s);
                us_socket_changed(s);
            }
            return length;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && !means_later(errno)) {
            us_socket_doom(s);
            return 0;
        }
        us_socket_block(s);
        if (n <= 0) {
            return 0;
        }
        us_count_written(s, n);
        return (uint32_t) n;
    }
}

int us_socket_write(int, us_socket_t *s, const char *data, int length, int msg_more) {
    const uint32_t wanted = (uint32_t) length < MAX_WRITE ? (uint32_t) length : MAX_WRITE;
    if (s->closed || s->shut_down || (s->flags_ & US_FLAG_DOOMED) || !wanted) {
        return 0;
    }
    const uint32_t taken = s->blocked ? 0 : put(s, data, wanted);
    if (taken == wanted) [[likely]] {
        return (int) taken;
    }
    us_socket_changed(s);
    const uint32_t rest = wanted - taken;
    if (msg_more && wanted <= US_SPILL_CHUNK && spilled(s) + rest <= US_SPILL_MAX && !(s->flags_ & US_FLAG_DOOMED)) {
        spill(s, data + taken, rest);
        return (int) wanted;
    }
    return (int) taken;
}

// For transports, in which two small writes are two records: the header shares one with the payload's beginning.
[[gnu::noinline]] static uint32_t put2(us_socket_t *s, const char *header, uint32_t h, const char *payload,
                                       uint32_t p) {
    char first[US_SPILL_CHUNK];
    const uint32_t with = p < sizeof(first) - h ? p : (uint32_t) sizeof(first) - h;
    memcpy(first, header, h);
    memcpy(first + h, payload, with);
    uint32_t taken = put(s, first, h + with);
    if (taken == h + with && with < p && !s->blocked && !(s->flags_ & US_FLAG_DOOMED)) {
        taken += put(s, payload + with, p - with);
    }
    return taken;
}

// Parts of a plain socket that is not blocked, `length` bytes in all; as put().
static inline uint32_t put_parts(us_socket_t *s, iovec *parts, size_t count, uint32_t length) {
    ssize_t n;
    do {
        n = us_sys_sendmsg(s->fd, parts, count, more_flag(s));
    } while (n < 0 && errno == EINTR);
    if (n < 0 && !means_later(errno)) {
        us_socket_doom(s);
        return 0;
    }
    const uint32_t taken = n < 0 ? 0 : (uint32_t) n;
    us_count_written(s, taken);
    if (taken < length) {
        us_socket_block(s);
    }
    return taken;
}

int us_socket_takes_parts(const us_socket_t *s) {
    return !s->context->transport_ && !s->blocked && !s->closed && !s->shut_down && !(s->flags_ & US_FLAG_DOOMED);
}

size_t us_socket_write_parts(us_socket_t *s, iovec *parts, size_t count) {
    if (!us_socket_takes_parts(s)) {
        return 0;
    }
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    const uint32_t taken = put_parts(s, parts, count, (uint32_t) length);
    if (taken < length) {
        us_socket_changed(s);
    }
    return taken;
}

int us_socket_write2(int, us_socket_t *s, const char *header, int header_length, const char *payload,
                     int payload_length) {
    const uint32_t h = (uint32_t) header_length;
    const uint32_t p = (uint32_t) payload_length < MAX_WRITE ? (uint32_t) payload_length : MAX_WRITE;
    if (s->closed || s->shut_down || (s->flags_ & US_FLAG_DOOMED) || h > US_SPILL_CHUNK) {
        return 0;
    }
    uint32_t taken = 0;
    if (s->context->transport_) {
        taken = s->blocked ? 0 : put2(s, header, h, payload, p);
    } else if (!s->blocked) {
        iovec parts[2] = {{(void *) header, h}, {(void *) payload, p}};
        taken = put_parts(s, parts, 2, h + p);
        if (s->flags_ & US_FLAG_DOOMED) {
            return 0;
        }
    }
    if (taken == h + p) {
        return (int) taken;
    }
    us_socket_changed(s);
    if ((s->flags_ & US_FLAG_DOOMED) || taken > h) {
        return (int) taken;
    }
    if (taken < h) {
        spill(s, header + taken, h - taken);
    }
    if (p) {
        spill(s, payload, 1);
        return (int) (h + 1);
    }
    return (int) h;
}

// False: not everything went out, or the socket was doomed.
static bool flush(us_socket_t *s) {
    const us_transport_t *transport = s->context->transport_;
    if (transport && transport->flush(s) != 0) {
        if (!means_later(errno)) {
            us_socket_doom(s);
        }
        return false;
    }
    us_spill_t *pending = s->spill_;
    while (pending && pending->offset < pending->length) {
        const char *data = pending->data() + pending->offset;
        const size_t length = pending->length - pending->offset;
        const ssize_t n = transport ? transport->send(s, data, length) : us_sys_send(s->fd, data, length);
        if (n >= 0) {
            pending->offset += (uint32_t) n;
            us_count_written(s, n);
        } else if (means_later(errno)) {
            return false;
        } else if (errno != EINTR) {
            us_socket_doom(s);
            return false;
        }
    }
    free(pending);
    s->spill_ = nullptr;
    return !transport || !transport->unsent(s);
}

void us_socket_finish_writing(us_socket_t *s) {
    const us_transport_t *transport = s->context->transport_;
    const int answer = transport ? transport->shutdown(s) : us_sys_shutdown_write(s->fd);
    if (answer == 0) {
        s->flags_ |= US_FLAG_FIN_SENT;
    } else if (transport && means_later(errno)) {
        if (!s->blocked) {
            us_socket_block(s);
        }
    } else {
        us_socket_doom(s);
    }
}

int us_socket_retry(us_socket_t *s) {
    if (s->closed || s->shut_down || (s->flags_ & US_FLAG_DOOMED)) {
        return 0;
    }
    if (s->blocked) {
        us_socket_changed(s);
        if (!flush(s)) {
            return 0;
        }
        us_socket_unblock(s);
    }
    return 1;
}

void us_socket_writable(us_socket_t *s) {
    if (s->blocked) {
        us_socket_changed(s);
        if (!flush(s)) {
            return;
        }
        us_socket_unblock(s);
        if (s->shut_down) {
            us_socket_finish_writing(s);
            if (s->peer_ended && (s->flags_ & US_FLAG_FIN_SENT)) {
                us_socket_close(0, s, 0, nullptr);
                return;
            }
        } else if (s->context->cb.on_writable) {
            us_dispatch_t dispatch(s->context->loop, US_PHASE_WRITABLE);
            s->context->cb.on_writable(s);
        }
        s = us_socket_follow(s);
        us_socket_changed(s);  // again: handlers may have had the first change reported half-way
    }
    us_socket_update_interest(us_socket_follow(s));
}

void us_socket_shutdown(int, us_socket_t *s) {
    if (s->closed || s->shut_down) {
        return;
    }
    s->shut_down = true;
    if (s->spill_ || (s->flags_ & US_FLAG_DOOMED)) {
        return;
    }
    us_socket_finish_writing(s);
    if (s->flags_ & US_FLAG_FIN_SENT) {
        us_socket_unblock(s);
        us_socket_update_interest(s);
    }
}
