// tls/bio.cpp - the BIO between OpenSSL and our buffers, and the way of encrypted bytes to the kernel.
//
// Writing into the BIO always succeeds: bytes gather in the family's buffer, one send() per operation sends them, and
// the bytes that the kernel does not accept become the socket's own `out`. While there are such bytes, all new ones are
// appended to them. Invariant between operations: the family's buffer is empty, and a socket with unsent bytes is
// blocked, so that EPOLLOUT will come.
//
// `out` is bounded: write calls add nothing to it (send() of tls/tls.cpp returns EAGAIN first), so only answers that
// the peer provokes grow it; at US_TLS_OUT_MAX the connection fails.

#include "usockets/tls/bio.h"

#include "usockets/loop/state.h"
#include "usockets/tcp/write.h"

static bool append(us_tls_state_t *state, const void *data, size_t length) {
    return us_stored_length(state->out) + length <= US_TLS_OUT_MAX && us_stored_append(state->out, data, length);
}

// Returns the bytes that the kernel accepts; less than length only when it has no room or fails (write_error).
static size_t send_some(us_tls_state_t *state, const char *data, size_t length) {
    size_t sent = 0;
    while (sent < length) {
        const ssize_t n = us_sys_send(state->fd, data + sent, length - sent);
        if (n < 0) {
            state->write_error = us_is_temporary(errno) ? state->write_error : errno;
            break;
        }
        sent += (size_t) n;
    }
    return sent;
}

void us_tls_flush_family(us_tls_state_t *state) {
    us_tls_family_t *family = state->family;
    const size_t length = family->out_length;
    if (!length) {
        return;
    }
    family->out_length = 0;
    if (state->write_error) {
        return;
    }
    const size_t sent = state->out ? 0 : send_some(state, family->out, length);
    if (sent < length && !state->write_error && !append(state, family->out + sent, length - sent)) {
        state->write_error = ENOBUFS;
    }
}

int us_tls_flush_socket(us_tls_state_t *state) {
    if (state->out && !state->write_error) {
        us_stored_consume(state->out, send_some(state, state->out->data(), us_stored_length(state->out)));
    }
    if (!state->write_error && !state->out) {
        return 0;
    }
    errno = state->write_error ? state->write_error : EAGAIN;
    return -1;
}

bool us_tls_append(us_tls_state_t *state, const void *data, size_t length) {
    us_tls_family_t *family = state->family;
    if (length > US_TLS_OUT - family->out_length) {
        us_tls_flush_family(state);
        if (state->out || length > US_TLS_OUT) {
            return append(state, data, length);
        }
    }
    memcpy(family->out + family->out_length, data, length);
    family->out_length += length;
    return true;
}

static int bio_write(BIO *bio, const char *data, size_t length, size_t *written) {
    BIO_clear_retry_flags(bio);
    us_tls_state_t *state = (us_tls_state_t *) BIO_get_data(bio);
    if (!us_tls_append(state, data, length)) {
        return 0;
    }
    *written = length;
    return 1;
}

static int bio_read(BIO *bio, char *data, size_t length, size_t *taken) {
    BIO_clear_retry_flags(bio);
    us_tls_state_t *state = (us_tls_state_t *) BIO_get_data(bio);
    if (!state->input_left) {
        BIO_set_retry_read(bio);
        return 0;
    }
    const size_t n = length < state->input_left ? length : state->input_left;
    memcpy(data, state->input, n);
    state->input += n;
    state->input_left -= n;
    *taken = n;
    return 1;
}

// OpenSSL flushes at the end of each flight, and queries kernel TLS, which this BIO does not support.
static long bio_control(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH; }

static const BIO_METHOD *make_method() {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "usockets");
    if (!method || !BIO_meth_set_write_ex(method, bio_write) || !BIO_meth_set_read_ex(method, bio_read) ||
        !BIO_meth_set_ctrl(method, bio_control)) {
        us_out_of_memory();
    }
    return method;
}

BIO *us_tls_bio_new(us_tls_state_t *state) {
    static const BIO_METHOD *const method = make_method();
    BIO *bio = BIO_new(method);
    if (bio) {
        BIO_set_data(bio, state);
        BIO_set_init(bio, 1);
    }
    return bio;
}
