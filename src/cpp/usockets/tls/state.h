// tls/state.h - the TLS state of a socket, and what the sockets of a context share.
//
// Ownership: a us_tls_state_t belongs to its socket (transport_state_, moved by adopt) and owns the SSL and a reference
// to the configuration. A us_tls_family_t belongs to a root context (transport_config_) and has the buffers that its
// sockets use in turn: one for received and one for encrypted bytes. Each operation on a socket leaves both empty:
// unused bytes are copied into the socket's own memory, so that an idle or a fast connection has no buffer at all.
//
// OpenSSL never uses the descriptor. Its BIO (tls/bio.cpp) reads from `input` and writes to the family's `out`; so
// SSL_write() never has to be repeated, SSL_read() never sees the end of the stream, and every system call is ours.
//
// Loop thread only, except for the reference count of the configuration.

#pragma once

#include "usockets/tcp/stored_bytes.h"
#include "usockets/tls/config.h"

#include <openssl/err.h>

enum {
    US_TLS_RECORD = 16 * 1024,  // the most plaintext in one record (RFC 8446 5.1)
    US_TLS_RECORD_WIRE = US_TLS_RECORD + 5 + 256,  // the largest record on the wire
    US_TLS_IN = LIBUS_RECV_BUFFER_LENGTH,
    US_TLS_BATCH = 2 * US_TLS_RECORD,  // plaintext that is encrypted for one send()
    US_TLS_OUT = US_TLS_BATCH + 4096,
    US_TLS_OUT_MAX = 128 * 1024,  // of one socket; only a peer that provokes answers and never reads reaches it
    US_TLS_HANDSHAKE_BUDGET_NS = 2'000'000,  // of one iteration, all connections together
};

struct us_tls_family_t {
    us_tls_config_t *config = nullptr;
    uint64_t iteration = 0, spent_ns = 0;  // in handshakes, in that iteration
    size_t out_length = 0;
    char in[US_TLS_IN];
    char out[US_TLS_OUT];
};

struct us_tls_state_t {
    SSL *ssl;
    us_tls_config_t *config;
    us_tls_family_t *family;
    const char *input;  // received and not yet read by OpenSSL: in `kept`, or in the family's buffer during recv()
    size_t input_left;
    char *kept;
    us_stored_bytes_t *out;  // encrypted bytes that the kernel had no room for
    int fd;  // the socket's, set by us_tls_of() at the start of each operation
    uint32_t deadline;  // the hard deadline of the handshake; 0: none
    int write_error;  // errno of a fatal send error; no more writes
    bool established;  // the handshake is done
    bool failed;  // a protocol error: OpenSSL must not be called any more
    bool peer_notified;  // the peer's close_notify was read
    bool notified;  // our close_notify was written
};

static inline us_tls_state_t *us_tls_of(us_socket_t *s) {
    us_tls_state_t *state = (us_tls_state_t *) s->transport_state_;
    state->fd = s->fd;  // -1 after a fork, when another file may have the number
    return state;
}

// Other code of this thread (Python's ssl module) may have left errors, and SSL_get_error() would take them for ours.
static inline void us_tls_forget_errors() {
    if (ERR_peek_error()) {
        ERR_clear_error();
    }
}
