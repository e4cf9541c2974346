// tcp/read.cpp - received bytes to on_data, and the end of the stream to on_end.
//
// All sockets of a loop share one receive buffer with padding on both sides; its contents are valid until on_data
// returns. A read that fills it is followed by another, up to four reads or one millisecond, then the other sockets get
// their turn; epoll is level-triggered, so no bytes are forgotten. A short read ends the visit without a further recv()
// for EAGAIN.
//
// The layer above may handle a part of a read and give the rest back (us_socket_unread()); it is delivered again,
// before any other bytes, in the socket's next visit.
//
// The limit of one read depends on the cost of its handlers: 128 KiB of small messages are 5,000 calls, during which no
// other socket is served. So larger reads are timed, and the limit of the next one aims at half a millisecond of
// handlers.
//
// A hang-up or error event is only a hint to keep reading: bytes that the peer sent before are always delivered first,
// and recv() returns the end or the error (defect U5). After each callback the socket may be closed or have moved.

#include "usockets/tcp/read.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/stored_bytes.h"
#include "usockets/tcp/transport.h"

#include <algorithm>

constexpr uint64_t US_READ_BUDGET_NS = 1'000'000;  // of one visit
constexpr uint64_t US_READ_AIM_NS = 500'000;  // of the handlers of one read
constexpr int US_READ_MIN = 4096;
constexpr unsigned US_LAST_READS_S = 10;  // bounds the reads of a broken connection

// ---- pausing ----

void us_socket_pause(us_socket_t *s, int reason) {
    if (s->closed) {
        return;
    }
    s->pause_reasons |= (uint8_t) reason;
    if (reason & US_PAUSE_USER) {
        s->deadline_ = 0;
    }
}

void us_socket_resume(us_socket_t *s, int reason) {
    if (s->closed || !s->pause_reasons) {
        return;
    }
    s->pause_reasons &= (uint8_t) ~reason;
    if (!s->pause_reasons) {
        us_socket_update_interest(s);
        if ((s->flags_ & US_FLAG_UNREAD) || (s->transport_state_ && s->context->transport_->pending(s))) {
            us_ready_add(s);
        }
    }
}

void us_socket_keepalive(us_socket_t *s, unsigned int seconds) {
    constexpr int PROBES = 4, MAX_SECONDS = 32767;  // the kernel's limit
    if (s->closed || !s->ip_length) {
        return;
    }
    const int idle = (int) std::clamp(seconds, 1u, (unsigned) MAX_SECONDS);
    const int interval = std::max(idle / PROBES, 1);
    (void) (us_sys_setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPIDLE, idle) == 0 &&
            us_sys_setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPINTVL, interval) == 0 &&
            us_sys_setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES) == 0 &&
            us_sys_setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, 1) == 0);
}

// ---- bytes that the layer above has given back, so that other sockets get their turn ----

void us_socket_unread(us_socket_t *s, const char *data, size_t length) {
    if (s->closed || !length || (s->flags_ & US_FLAG_UNREAD)) {
        return;
    }
    us_stored_bytes_t *unread = nullptr;
    if (!us_stored_append(unread, data, length)) {
        us_out_of_memory();
    }
    s->pending_close_reason_ = unread;
    s->flags_ |= US_FLAG_UNREAD;
    us_socket_changed(s);
}

size_t us_socket_unread_bytes(const us_socket_t *s) {
    return s->flags_ & US_FLAG_UNREAD ? us_stored_length((const us_stored_bytes_t *) s->pending_close_reason_) : 0;
}

void us_socket_drop_unread(us_socket_t *s) {
    if (s->flags_ & US_FLAG_UNREAD) {
        free(s->pending_close_reason_);
        s->pending_close_reason_ = nullptr;
        s->flags_ &= ~US_FLAG_UNREAD;
    }
}

[[gnu::noinline]] static ssize_t read_again(us_socket_t *s, char *buffer, size_t limit) {
    us_stored_bytes_t *unread = (us_stored_bytes_t *) s->pending_close_reason_;
    const size_t n = std::min(us_stored_length(unread), limit);
    memcpy(buffer, unread->data(), n);
    unread->offset += (uint32_t) n;
    us_socket_changed(s);
    if (unread->offset == unread->length) {
        us_socket_drop_unread(s);
    }
    return (ssize_t) n;
}

// ---- reading ----

static inline ssize_t receive(us_socket_t *s, char *buffer, size_t limit) {
    if (s->flags_ & US_FLAG_UNREAD) [[unlikely]] {
        return read_again(s, buffer, LIBUS_RECV_BUFFER_LENGTH);
    }
    const us_transport_t *transport = s->context->transport_;
    const ssize_t n = transport ? transport->recv(s, buffer, limit) : us_sys_recv(s->fd, buffer, limit, 0);
    if (n > 0) [[likely]] {
        us_count_bytes(&s->context->loop->bytes_read_, n);
    }
    return n;
}

static inline us_socket_t *deliver(us_loop_t *loop, us_socket_t *s, char *data, int length) {
    us_dispatch_t dispatch(loop, US_PHASE_DATA);
    if (s->context->cb.on_data) {
        s->context->cb.on_data(s, data, length);
    }
    return us_socket_newest(s);
}

void us_socket_deliver_end(us_socket_t *s) {
    if (s->flags_ & US_FLAG_END_CALLED) {
        return;
    }
    s->flags_ |= US_FLAG_END_CALLED;
    if (!s->context->cb.on_end) {
        us_socket_close(0, s, 0, nullptr);
        return;
    }
    {
        us_dispatch_t dispatch(s->context->loop, US_PHASE_END);
        s->context->cb.on_end(s);
    }
    us_socket_update_interest(us_socket_newest(s));
}

// The peer's FIN. If our own FIN still waits for the unsent tail, the socket stays open until both are sent.
static void peer_ended(us_socket_t *s) {
    s->peer_ended = true;
    if (!s->shut_down) {
        us_socket_deliver_end(s);
    } else if (s->flags_ & US_FLAG_FIN_SENT) {
        us_socket_close(0, s, 0, nullptr);
    } else {
        us_socket_update_interest(s);
    }
}

// deliver() with a measured time. At most doubles the limit, so that one quick read between slow ones changes little.
static us_socket_t *deliver_timed(us_loop_t *loop, us_socket_t *s, char *data, int length, uint64_t *spent_ns) {
    const uint64_t before = us_sys_now_ns();
    s = deliver(loop, s, data, length);
    const uint64_t spent = *spent_ns = us_sys_now_ns() - before + 1;
    size_t &limit = loop->internal_->read_limit;
    const uint64_t fit = (uint64_t) length * US_READ_AIM_NS / spent;
    limit = std::clamp<size_t>(fit, US_READ_MIN, std::min<size_t>(2 * limit, LIBUS_RECV_BUFFER_LENGTH));
    return s;
}

void us_socket_read(us_socket_t *s, uint32_t events) {
    us_loop_t *loop = s->context->loop;
    uint64_t started = 0, spent = 0;
    for (int reads = 1;; reads++) {
        char *buffer = loop->internal_->recv_buffer;  // us_loop_take_recv_buffer() may have replaced it
        const size_t limit = loop->internal_->read_limit;
        const ssize_t n = receive(s, buffer, limit);
        if (n <= 0) {
            if (n == 0) {
                peer_ended(s);
            } else if (errno == EPROTO && s->transport_state_) {
                us_socket_close_refused(s);
            } else if (errno != EAGAIN || (events & (EPOLLERR | EPOLLHUP))) {
                us_socket_close_broken(s);
            }
            return;
        }
        s = n < US_READ_MIN ? deliver(loop, s, buffer, (int) n) : deliver_timed(loop, s, buffer, (int) n, &spent);
        if (s->closed || !us_socket_is_reading(s)) {
            return;
        }
        if (s->flags_ & US_FLAG_UNREAD) [[unlikely]] {
            us_ready_add(s);
            return;
        }
        const bool more_is_known = events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP);
        const us_transport_t *transport = s->context->transport_;
        const bool more_is_here = transport && transport->pending(s);
        if ((size_t) n < limit && !more_is_known && !more_is_here) {
            return;
        }
        const uint64_t now = us_sys_now_ns();
        if (reads == 1) {
            started = now - spent;  // small reads are not timed
        }
        if (reads == US_READS_PER_EVENT || now - started > US_READ_BUDGET_NS) {
            if (more_is_here) {
                us_ready_add(s);
            }
            return;
        }
    }
}

// After a fatal write error, bytes that the peer sent before it are still delivered. Bounded, in case the peer keeps
// sending: 2 MiB, or US_LAST_READS_S when that takes several turns.
void us_socket_read_last(us_socket_t *s) {
    us_loop_t *loop = s->context->loop;
    for (int reads = 0; reads < 16 && !s->closed && us_socket_is_reading(s); reads++) {
        const ssize_t n = receive(s, loop->internal_->recv_buffer, LIBUS_RECV_BUFFER_LENGTH);
        if (n <= 0) {
            break;
        }
        s = deliver(loop, s, loop->internal_->recv_buffer, (int) n);
        if ((s->flags_ & US_FLAG_UNREAD) && !s->closed && us_socket_is_reading(s)) {
            if (!s->hard_deadline_) {
                us_socket_deadline(s, US_LAST_READS_S);
            }
            us_ready_add(s);
            return;
        }
    }
    us_socket_close(0, s, 0, nullptr);
}

// Needs its own buffer: the caller is often inside an on_data whose parser still uses the loop's.
us_socket_t *us_socket_deliver(us_socket_t *s, const char *data, size_t length) {
    us_loop_t *loop = s->context->loop;
    us_dispatch_t dispatch(loop, loop->phase);
    const size_t piece = std::min<size_t>(length, LIBUS_RECV_BUFFER_LENGTH);
    char *block = (char *) us_alloc(piece + 2 * LIBUS_RECV_BUFFER_PADDING);
    s = us_socket_newest(s);
    while (length && !s->closed) {
        const size_t n = std::min(length, piece);
        memcpy(block + LIBUS_RECV_BUFFER_PADDING, data, n);
        data += n;
        length -= n;
        us_contain(loop, s, [&] { s = deliver(loop, s, block + LIBUS_RECV_BUFFER_PADDING, (int) n); });
    }
    free(block);
    return s;
}
