// tcp/write.cpp - bytes from the layer above to the kernel.
//
// Only us_socket_writable() calls back. A short write sets `blocked`: until EPOLLOUT, further writes return 0 without a
// system call, as uWebSockets retries its whole backlog at every send (defect S9).
//
// The unsent tail holds bytes that a write has accepted although the kernel has not: the rest of a short msg_more write
// (uWebSockets would lose the bytes behind it, S2) and the header plus one byte of a write2 (it would lose the payload,
// S1). Invariants: a socket with a tail is blocked; the tail is sent first, before on_writable and before FIN; it is
// small (TAIL_MAX, plus write2 headers) and freed when empty. After a fatal error, writes return 0 and the loop closes
// the socket at the end of the iteration.
//
// MSG_MORE is used between us_socket_hold() and us_socket_push() only: without a following write it would delay the
// last segment by 200 ms.

#include "usockets/tcp/write.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/stored_bytes.h"
#include "usockets/tcp/transport.h"

#include <algorithm>

// The largest msg_more write whose tail is kept: uWebSockets' cork buffer.
static constexpr uint32_t TAIL_CHUNK = 16 * 1024;
static constexpr uint32_t TAIL_MAX = 2 * TAIL_CHUNK;
static constexpr uint32_t MAX_WRITE = 1u << 30;

// uWebSockets makes an int of a size_t.
static inline uint32_t clamped(int length) { return std::min((uint32_t) length, MAX_WRITE); }

static inline bool cannot_write(const us_socket_t *s) {
    return s->closed || s->shut_down || (s->flags_ & US_FLAG_FAILED);
}

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

static void keep_tail(us_socket_t *s, const char *data, uint32_t length) {
    if (!us_stored_append(s->unsent_tail_, data, length)) {
        us_out_of_memory();
    }
}

// Of the transport: encrypted, and not yet accepted by the kernel.
static inline size_t transport_unsent(us_socket_t *s) {
    return s->transport_state_ ? s->context->transport_->unsent(s) : 0;
}

size_t us_socket_unsent_bytes(us_socket_t *s) { return us_stored_length(s->unsent_tail_) + transport_unsent(s); }

size_t us_socket_unacknowledged(us_socket_t *s) {
    int bytes = 0;
    return !s->closed && ioctl(s->fd, TIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t) bytes : 0;
}

uint64_t us_socket_acknowledged_bytes(us_socket_t *s) {
    return s->written_ - transport_unsent(s) - us_socket_unacknowledged(s);
}

unsigned int us_socket_seconds_since_ack(us_socket_t *s) {
    tcp_info info{};
    return !s->closed && us_sys_getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info) == 0 ? info.tcpi_last_ack_recv / 1000
                                                                                     : 0;
}

// Bytes of s that the kernel, or its transport, has accepted.
static inline void count_written(us_socket_t *s, ssize_t n) {
    s->written_ += (uint64_t) n;
    us_count_bytes(&s->context->loop->bytes_written_, n);
}

// MSG_MORE or 0 for the next write. Notes whether us_socket_push() will have to send a delayed segment.
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

// A blocked socket needs no push: the kernel sends when it has room. Not all sockets are TCP, so errors are ignored.
void us_socket_push(us_socket_t *s) {
    us_loop_internal_t *internal = s->context->loop->internal_;
    us_socket_release(s);
    if (internal->unpushed == s) {
        internal->unpushed = nullptr;
        if (!s->closed && !(s->flags_ & US_FLAG_FIN_SENT)) {
            us_sys_setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, 1);  // is set; this sends the delayed segment
        }
    }
}

// After a write of the socket that has returned `n`, less than wanted. Returns the bytes accepted.
static inline uint32_t short_write(us_socket_t *s, ssize_t n) {
    if (n < 0 && !us_is_temporary(errno)) {
        us_socket_fail(s);
        return 0;
    }
    us_socket_block(s);
    if (n <= 0) {
        return 0;
    }
    count_written(s, n);
    return (uint32_t) n;
}

// Returns the bytes accepted; sets `blocked` after a short write. The socket is open, not shut down and not blocked.
static inline uint32_t send_bytes(us_socket_t *s, const char *data, uint32_t length) {
    const us_transport_t *transport = s->context->transport_;
    const ssize_t n = transport ? transport->send(s, data, length) : us_sys_send(s->fd, data, length, more_flag(s));
    if (n == (ssize_t) length) [[likely]] {
        count_written(s, n);
        if (transport && transport->unsent(s)) {
            us_socket_block(s);
            us_socket_changed(s);
        }
        return length;
    }
    return short_write(s, n);
}

int us_socket_write(int, us_socket_t *s, const char *data, int length, int msg_more) {
    const uint32_t wanted = clamped(length);
    if (cannot_write(s) || !wanted) {
        return 0;
    }
    const uint32_t accepted = s->blocked ? 0 : send_bytes(s, data, wanted);
    if (accepted == wanted) [[likely]] {
        return (int) accepted;
    }
    us_socket_changed(s);
    const uint32_t rest = wanted - accepted;
    if (msg_more && wanted <= TAIL_CHUNK && us_stored_length(s->unsent_tail_) + rest <= TAIL_MAX &&
        !(s->flags_ & US_FLAG_FAILED)) {
        keep_tail(s, data + accepted, rest);
        return (int) wanted;
    }
    return (int) accepted;
}

// For transports, in which two small writes make two records: puts the header and the start of the payload into one.
[[gnu::noinline]] static uint32_t send_with_header(us_socket_t *s, const char *header, uint32_t h, const char *payload,
                                                   uint32_t p) {
    char first[TAIL_CHUNK];
    const uint32_t with = std::min(p, (uint32_t) sizeof(first) - h);
    memcpy(first, header, h);
    memcpy(first + h, payload, with);
    uint32_t accepted = send_bytes(s, first, h + with);
    if (accepted == h + with && with < p && !s->blocked && !(s->flags_ & US_FLAG_FAILED)) {
        accepted += send_bytes(s, payload + with, p - with);
    }
    return accepted;
}

// As send_bytes(), for parts of `length` bytes in all. The socket is plain and not blocked.
static inline uint32_t send_parts(us_socket_t *s, iovec *parts, size_t count, uint32_t length) {
    const ssize_t n = us_sys_sendmsg(s->fd, parts, count, more_flag(s));
    if (n == (ssize_t) length) [[likely]] {
        count_written(s, n);
        return length;
    }
    return short_write(s, n);
}

bool us_socket_can_write_parts(const us_socket_t *s) {
    return !s->context->transport_ && !s->blocked && !cannot_write(s);
}

size_t us_socket_write_parts(us_socket_t *s, iovec *parts, size_t count) {
    if (!us_socket_can_write_parts(s)) {
        return 0;
    }
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += parts[i].iov_len;
    }
    const uint32_t accepted = send_parts(s, parts, count, (uint32_t) length);
    if (accepted < length) {
        us_socket_changed(s);
    }
    return accepted;
}

int us_socket_write2(int, us_socket_t *s, const char *header, int header_length, const char *payload,
                     int payload_length) {
    const uint32_t h = (uint32_t) header_length;
    const uint32_t p = clamped(payload_length);
    if (cannot_write(s) || h > TAIL_CHUNK) {
        return 0;
    }
    uint32_t accepted = 0;
    if (s->context->transport_) {
        accepted = s->blocked ? 0 : send_with_header(s, header, h, payload, p);
    } else if (!s->blocked) {
        iovec parts[2] = {{(void *) header, h}, {(void *) payload, p}};
        accepted = send_parts(s, parts, 2, h + p);
        if (s->flags_ & US_FLAG_FAILED) {
            return 0;
        }
    }
    if (accepted == h + p) {
        return (int) accepted;
    }
    us_socket_changed(s);
    if ((s->flags_ & US_FLAG_FAILED) || accepted > h) {
        return (int) accepted;
    }
    if (accepted < h) {
        keep_tail(s, header + accepted, h - accepted);
    }
    if (p) {
        keep_tail(s, payload, 1);
        return (int) (h + 1);
    }
    return (int) h;
}

// False: bytes are left, or the socket has failed.
static bool flush(us_socket_t *s) {
    const us_transport_t *transport = s->context->transport_;
    if (transport && transport->flush(s) != 0) {
        if (!us_is_temporary(errno)) {
            us_socket_fail(s);
        }
        return false;
    }
    while (us_stored_bytes_t *tail = s->unsent_tail_) {
        const size_t length = us_stored_length(tail);
        const ssize_t n =
            transport ? transport->send(s, tail->data(), length) : us_sys_send(s->fd, tail->data(), length);
        if (n < 0) {
            if (!us_is_temporary(errno)) {
                us_socket_fail(s);
            }
            return false;
        }
        us_stored_consume(s->unsent_tail_, (size_t) n);
        count_written(s, n);
    }
    return !transport || !transport->unsent(s);
}

// Sends what the socket is blocked by. False: it is still blocked, or has failed.
static bool unblocked(us_socket_t *s) {
    us_socket_changed(s);
    if (!flush(s)) {
        return false;
    }
    us_socket_unblock(s);
    return true;
}

void us_socket_finish_writing(us_socket_t *s) {
    const us_transport_t *transport = s->context->transport_;
    const int answer = transport ? transport->shutdown(s) : us_sys_shutdown(s->fd, SHUT_WR);
    if (answer == 0) {
        s->flags_ |= US_FLAG_FIN_SENT;
    } else if (transport && us_is_temporary(errno)) {
        if (!s->blocked) {
            us_socket_block(s);
        }
    } else {
        us_socket_fail(s);
    }
}

bool us_socket_retry(us_socket_t *s) { return !cannot_write(s) && (!s->blocked || unblocked(s)); }

void us_socket_writable(us_socket_t *s) {
    if (s->blocked) {
        if (!unblocked(s)) {
            return;
        }
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
        s = us_socket_newest(s);
        us_socket_changed(s);  // again: handlers may have caused an early report of the first change
    }
    us_socket_update_interest(us_socket_newest(s));
}

void us_socket_shutdown(int, us_socket_t *s) {
    if (s->closed || s->shut_down) {
        return;
    }
    s->shut_down = true;
    if (s->unsent_tail_ || (s->flags_ & US_FLAG_FAILED)) {
        return;
    }
    us_socket_finish_writing(s);
    if (s->flags_ & US_FLAG_FIN_SENT) {
        us_socket_unblock(s);
        us_socket_update_interest(s);
    }
}
