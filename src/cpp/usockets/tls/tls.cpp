// tls/tls.cpp - the transport (tcp/transport.h) that encrypts: handshakes, records, close_notify.
//
// recv() decrypts straight into the loop's receive buffer, as many records as fit, so that many small records make one
// on_data. It reads from the kernel once per call, and again only while it has nothing to deliver: after a short read
// there is nothing more now. When bytes stay in OpenSSL or in `input` because the buffer is full (or the layer above
// paused), pending() is true, and the loop reads them without an event.
//
// Full handshakes cost up to milliseconds of CPU. One iteration spends US_TLS_HANDSHAKE_BUDGET_NS on them; the others
// are not even read: epoll, which is level-triggered and keeps its order, serves as their queue.
//
// The end of the stream: close_notify or FIN, whichever comes first, is the peer's end (0 from recv). A FIN without a
// close_notify is not an error here, as HTTP and WebSocket messages carry their own lengths and ends.
//
// After a protocol error, recv() writes the alert and fails with EPROTO; the connection then drains (tcp/read.cpp), as
// a reset would destroy the alert.

#include "usockets/tls/tls.h"

#include "usockets/loop/poll.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/write.h"
#include "usockets/tcp/transport.h"
#include "usockets/tls/bio.h"

#include <algorithm>
#include <utility>

static constexpr char PLAIN_HTTP_ANSWER[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 60\r\nConnection: close\r\n\r\n"
    "This port speaks TLS: the URL must begin with https or wss.\n";

// OpenSSL sends no alert to a peer whose first bytes are no TLS record at all: fatal, protocol_version (RFC 8446 6).
static constexpr char VERSION_ALERT[] = {21, 3, 1, 0, 2, 2, 70};

static int fail_with(int error) {
    errno = error;
    return -1;
}

static us_tls_family_t *family_of(us_socket_context_t *context) {
    while (context->parent_) {
        context = context->parent_;
    }
    return (us_tls_family_t *) context->transport_config_;
}

static void free_state(us_tls_state_t *state) {
    SSL_free(state->ssl);
    us_tls_config_unref(state->config);
    free(state->kept);
    free(state->out);
    free(state);
}

static int tls_open(us_socket_t *s) {
    us_tls_forget_errors();
    us_tls_state_t *state = (us_tls_state_t *) calloc(1, sizeof(us_tls_state_t));
    if (!state) {
        return -1;
    }
    state->family = family_of(s->context);
    state->config = state->family->config;
    us_tls_config_ref(state->config);
    state->ssl = SSL_new(state->config->sites[0].context);
    BIO *bio = state->ssl ? us_tls_bio_new(state) : nullptr;
    if (!bio) {
        free_state(state);
        return fail_with(ENOMEM);
    }
    SSL_set_bio(state->ssl, bio, bio);
    SSL_set_accept_state(state->ssl);
    s->transport_state_ = state;
    return 0;
}

// ---- receiving ----

// One recv(): 0 is the end, -1 has errno. *full: the buffer was filled, so there may be more.
static ssize_t fetch(us_tls_state_t *state, size_t length, bool *full) {
    const size_t wanted = std::clamp<size_t>(length, US_TLS_RECORD_WIRE, US_TLS_IN);
    const ssize_t n = us_sys_recv(state->fd, state->family->in, wanted, 0);
    *full = n == (ssize_t) wanted;
    if (n > 0) {
        free(state->kept);  // used up, or OpenSSL would not have asked for more
        state->kept = nullptr;
        state->input = state->family->in;
        state->input_left = (size_t) n;
    }
    return n;
}

// The next socket uses the family's buffer: bytes that this socket has left there move into its own memory.
static void keep_input(us_tls_state_t *state) {
    if (!state->input_left) {
        free(state->kept);
        state->kept = nullptr;
    } else if (!state->kept) {
        state->kept = (char *) us_alloc(state->input_left);
        memcpy(state->kept, state->input, state->input_left);
        state->input = state->kept;
    }
}

[[gnu::cold]] static void fail(us_tls_state_t *state) {
    const unsigned long error = ERR_peek_error();
    const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    if (!state->established && !state->family->out_length) {
        if (reason == SSL_R_HTTP_REQUEST) {
            us_tls_append(state, PLAIN_HTTP_ANSWER, sizeof(PLAIN_HTTP_ANSWER) - 1);
        } else if (reason == SSL_R_WRONG_VERSION_NUMBER) {
            us_tls_append(state, VERSION_ALERT, sizeof(VERSION_ALERT));
        }
    }
    ERR_clear_error();
    state->failed = true;
    state->input_left = 0;
}

// OpenSSL does not read ahead, so otherwise a call would only return SSL_ERROR_WANT_READ.
static inline bool has_work(const us_tls_state_t *state) { return state->input_left || SSL_pending(state->ssl); }

// Decrypted bytes; 0 when OpenSSL needs more input, or after an end or an error, which sets a flag of the state.
static size_t decrypt(us_tls_state_t *state, char *data, size_t length) {
    size_t total = 0;
    while (total < length && !state->peer_notified && !state->failed && has_work(state)) {
        size_t n = 0;
        us_tls_forget_errors();
        const int answer = SSL_read_ex(state->ssl, data + total, length - total, &n);
        if (answer > 0) {
            total += n;
            continue;
        }
        switch (SSL_get_error(state->ssl, answer)) {
        case SSL_ERROR_WANT_READ:
            return total;
        case SSL_ERROR_ZERO_RETURN:
            state->peer_notified = true;
            break;
        default:
            fail(state);
        }
    }
    return total;
}

static bool may_shake_hands(us_socket_t *s, us_tls_family_t *family) {
    const uint64_t iteration = s->context->loop->internal_->iteration;
    if (family->iteration != iteration) {
        family->iteration = iteration;
        family->spent_ns = 0;
    }
    return family->spent_ns < US_TLS_HANDSHAKE_BUDGET_NS;
}

static void allow_polling(us_socket_t *s) {
    if (s->flags_ & US_FLAG_EARLY_WRITE) {
        s->flags_ &= ~US_FLAG_EARLY_WRITE;
        us_socket_update_interest(s);
    }
}

// Sends the bytes that the operation has written, and updates the socket's flags accordingly.
static void settle(us_socket_t *s, us_tls_state_t *state) {
    us_tls_flush_family(state);
    if (state->write_error) {
        if (!(s->flags_ & US_FLAG_FIN_SENT)) {
            us_socket_fail(s);
        }
    } else if (state->out) {
        if (!s->blocked) {
            us_socket_block(s);
        }
        allow_polling(s);  // bytes of the handshake wait for the kernel
        us_socket_changed(s);
    }
}

static size_t decrypt_timed(us_socket_t *s, us_tls_state_t *state, char *data, size_t length) {
    const uint64_t before = us_sys_now_ns();
    const size_t n = decrypt(state, data, length);
    state->family->spent_ns += us_sys_now_ns() - before;
    if (!state->failed && SSL_is_init_finished(state->ssl)) {
        state->established = true;
        if (state->deadline && s->hard_deadline_ == state->deadline) {
            us_socket_deadline(s, 0);  // unless another deadline was set since
        }
        allow_polling(s);
    }
    return n;
}

static ssize_t tls_recv(us_socket_t *s, void *data, size_t length) {
    us_tls_state_t *state = us_tls_of(s);
    if (!state->established && !may_shake_hands(s, state->family)) {
        return fail_with(EAGAIN);
    }
    size_t total = 0;
    ssize_t fetched = 1;
    int error = 0;
    for (bool more = true;;) {
        total =
            state->established ? decrypt(state, (char *) data, length) : decrypt_timed(s, state, (char *) data, length);
        if (total || state->peer_notified || state->failed || !more) {
            break;
        }
        fetched = fetch(state, length, &more);
        if (fetched <= 0) {
            error = errno;
            break;
        }
    }
    keep_input(state);
    settle(s, state);
    if (total) {
        return (ssize_t) total;
    }
    if (state->peer_notified || fetched == 0) {
        return 0;
    }
    return fail_with(state->failed ? EPROTO : fetched < 0 ? error : EAGAIN);
}

static bool tls_pending(us_socket_t *s) {
    us_tls_state_t *state = us_tls_of(s);
    return state->peer_notified || state->failed || has_work(state);
}

// ---- sending ----

static ssize_t tls_send(us_socket_t *s, const void *data, size_t length) {
    us_tls_state_t *state = us_tls_of(s);
    if (state->failed || state->write_error) {
        return fail_with(state->write_error ? state->write_error : EPIPE);
    }
    if (!state->established) {
        s->flags_ |= US_FLAG_EARLY_WRITE;
        us_socket_update_interest(s);  // it may be polled for writing because of an unsent tail
        return fail_with(EAGAIN);
    }
    if (state->out) {
        return fail_with(EAGAIN);
    }
    size_t taken = 0;
    while (taken < length && !state->out) {
        const size_t batch_end = std::min<size_t>(length, taken + US_TLS_BATCH);
        for (size_t n = 0; taken < batch_end; taken += n) {
            us_tls_forget_errors();
            const size_t record = std::min<size_t>(batch_end - taken, US_TLS_RECORD);
            if (SSL_write_ex(state->ssl, (const char *) data + taken, record, &n) <= 0) {
                fail(state);
                us_tls_flush_family(state);
                return fail_with(EPIPE);
            }
        }
        us_tls_flush_family(state);
        if (state->write_error) {
            return fail_with(state->write_error);
        }
    }
    return (ssize_t) taken;
}

static void tls_opened(us_socket_t *s) {
    if (const uint32_t seconds = s->context->tls_seconds_) {
        us_socket_deadline(s, seconds);
        us_tls_of(s)->deadline = s->hard_deadline_;
    }
}

static size_t tls_unsent(us_socket_t *s) { return us_stored_length(us_tls_of(s)->out); }

static int tls_flush(us_socket_t *s) { return us_tls_flush_socket(us_tls_of(s)); }

// Sends close_notify, at most once. Not before the handshake is done: there are no keys to encrypt it.
static void notify(us_tls_state_t *state) {
    if (state->notified || state->failed || state->write_error || !state->established) {
        return;
    }
    state->notified = true;
    us_tls_forget_errors();
    if (SSL_shutdown(state->ssl) < 0) {
        ERR_clear_error();
    }
    us_tls_flush_family(state);
}

static int tls_shutdown(us_socket_t *s) {
    us_tls_state_t *state = us_tls_of(s);
    notify(state);
    return us_tls_flush_socket(state) == 0 ? us_sys_shutdown(state->fd, SHUT_WR) : -1;
}

static void tls_close(us_socket_t *s) {
    us_tls_state_t *state = us_tls_of(s);
    if (!(s->flags_ & (US_FLAG_FAILED | US_FLAG_RESET))) {
        notify(state);
    }
}

// ---- the rest of the table ----

static void tls_free_state(us_socket_t *s) {
    free_state(us_tls_of(s));
    s->transport_state_ = nullptr;
}

static void tls_free_config(us_socket_context_t *root) {
    us_tls_family_t *family = (us_tls_family_t *) root->transport_config_;
    us_tls_config_unref(family->config);
    free(family);
    root->transport_config_ = nullptr;
}

static void *tls_native_handle(us_socket_t *s) {
    return s->transport_state_ ? us_tls_of(s)->ssl : nullptr;  // an old block of an adopted socket has none
}

static constexpr us_transport_t TLS = {
    .open = tls_open,
    .opened = tls_opened,
    .recv = tls_recv,
    .pending = tls_pending,
    .send = tls_send,
    .unsent = tls_unsent,
    .flush = tls_flush,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .free_state = tls_free_state,
    .free_config = tls_free_config,
    .native_handle = tls_native_handle,
};

bool us_socket_context_set_tls(us_socket_context_t *context, us_tls_config_t *config) {
    us_tls_family_t *family = (us_tls_family_t *) context->transport_config_;
    if (context->parent_ || (!family && (context->head_ || !context->loop))) {
        return false;
    }
    us_tls_config_ref(config);
    if (family) {
        us_tls_config_unref(std::exchange(family->config, config));
        return true;
    }
    family = ::new (us_alloc(sizeof(us_tls_family_t))) us_tls_family_t;
    family->config = config;
    context->transport_config_ = family;
    context->transport_ = &TLS;
    for (us_socket_context_t *c = context->loop->internal_->contexts; c; c = c->next_) {
        if (c->parent_ == context) {
            c->transport_ = &TLS;
        }
    }
    return true;
}

void us_socket_context_tls_deadline(us_socket_context_t *context, unsigned int seconds) {
    context->tls_seconds_ = seconds;
}

// nullptr: a plain socket.
static us_tls_state_t *state_of(us_socket_t *s) { return s->context->transport_ == &TLS ? us_tls_of(s) : nullptr; }

bool us_socket_tls_may_ask(us_socket_t *s, std::string_view host) {
    us_tls_state_t *state = state_of(s);
    return !state || !state->config->has_demands || us_tls_config_may_ask(state->config, state->ssl, host);
}

bool us_socket_tls_info(us_socket_t *s, us_tls_info_t *info) {
    us_tls_state_t *state = state_of(s);
    if (!state || !state->established) {
        return false;
    }
    info->version = SSL_get_version(state->ssl);
    info->cipher = SSL_get_cipher_name(state->ssl);
    const char *name = SSL_get_servername(state->ssl, TLSEXT_NAMETYPE_host_name);
    info->server_name = name ? name : "";
    const unsigned char *protocol = nullptr;
    unsigned int protocol_length = 0;
    SSL_get0_alpn_selected(state->ssl, &protocol, &protocol_length);
    info->alpn.assign((const char *) protocol, protocol_length);
    info->peer_certificate.clear();
    info->verify_error = nullptr;
    info->resumed = SSL_session_reused(state->ssl);
    if (X509 *certificate = SSL_get0_peer_certificate(state->ssl)) {
        unsigned char *der = nullptr;
        const int length = i2d_X509(certificate, &der);
        if (length > 0) {
            info->peer_certificate.assign((const char *) der, (size_t) length);
            OPENSSL_free(der);
        }
        const long verdict = SSL_get_verify_result(state->ssl);
        info->verify_error = verdict == X509_V_OK ? nullptr : X509_verify_cert_error_string(verdict);
    }
    return true;
}
