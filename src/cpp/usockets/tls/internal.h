// tls/internal.h - what the tls*.cpp files share.
//
// Ownership: a us_tls_state_t belongs to its socket (transport_state_, moved by adopt) and owns the SSL and a reference on
// the configuration. A us_tls_family_t belongs to a root context (transport_config_) and holds what its sockets use in
// turn: one buffer for received and one for encrypted bytes. Each operation on a socket leaves both empty: what could not
// be used is copied into the socket's own memory, so that an idle or a fast connection holds no buffer at all.
//
// OpenSSL never touches the descriptor. Its BIO (tls/bio.cpp) takes from `input` and puts into the family's `out`; so
// SSL_write() never has to be repeated, SSL_read() never sees the end of the stream, and every system call is ours.
//
// Loop thread only, but for the reference count of the configuration.

#pragma once

#include "usockets/internal.h"
#include "usockets/tls/tls.h"

#include <atomic>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <unordered_map>

enum {
    US_TLS_RECORD = 16 * 1024,  // the most that one record can carry (RFC 8446 5.1)
    US_TLS_RECORD_WIRE = US_TLS_RECORD + 5 + 256,  // the most it takes on the wire
    US_TLS_IN = LIBUS_RECV_BUFFER_LENGTH,
    US_TLS_BATCH = 2 * US_TLS_RECORD,  // plaintext that is encrypted before the kernel is asked to take it
    US_TLS_OUT = US_TLS_BATCH + 4096,
    US_TLS_OUT_MAX = 128 * 1024,  // of one socket; only a peer that provokes answers and never reads gets there
    US_TLS_HANDSHAKE_BUDGET_NS = 2'000'000,  // of one iteration, all connections together
};

// One entry of a configuration. The strings outlive `context`'s use of them in a handshake: a state refers to both.
struct us_tls_site_t {
    SSL_CTX *context = nullptr;
    std::string suites13;  // what SSL_set_SSL_CTX() does not carry over
    std::string alpn;  // in wire format
    std::string demands;  // on the client's certificate: equal for two sites that admit the same clients; empty: none
    int verify_mode = SSL_VERIFY_NONE;
    SSL_verify_cb verify = nullptr;
};

// tls/tickets.cpp
struct us_tls_ticket_key_t {
    unsigned char name[16], cipher[32], mac[32];
    uint64_t made_ns = 0;  // 0: there is none
};
struct us_tls_ticket_keys_t {
    us_tls_ticket_key_t current, previous;
    uint64_t period_ns = 4ull * 3600 * US_NS_PER_SECOND;
    ~us_tls_ticket_keys_t();
};

struct us_tls_config_t {
    std::atomic<int> references{1};
    us_tls_ticket_keys_t ticket_keys;
    std::vector<us_tls_site_t> sites;  // not resized after it was built
    bool has_demands = false;  // that differ from site to site
    std::unordered_map<std::string, size_t> exact, wildcard;  // "example.com"; the wildcard's without its "*."
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
    const char *input;  // received and not yet taken by OpenSSL: in `kept`, or in the family's buffer during recv()
    size_t input_left;
    char *kept;
    char *out;  // encrypted, and the kernel had no room for it; NULL: none
    uint32_t out_offset, out_length, out_capacity;
    int fd;  // the socket's, as of the operation that runs
    uint32_t deadline;  // the hard deadline of the handshake; 0: none
    int write_error;  // errno of a send that failed for good; nothing is written any more
    bool established;  // the handshake is done
    bool failed;  // a protocol error: OpenSSL must not be called any more
    bool peer_notified;  // its close_notify was read
    bool notified;  // ours was written
};

static inline us_tls_state_t *us_tls_of(us_socket_t *s) {
    us_tls_state_t *state = (us_tls_state_t *) s->transport_state_;
    state->fd = s->fd;  // -1 after a fork, when the number may be somebody else's
    return state;
}

static inline size_t us_tls_unsent(const us_tls_state_t *state) { return state->out_length - state->out_offset; }

// Other code of this thread (Python's ssl module) may have left its errors, and SSL_get_error() would take them for ours.
static inline void us_tls_forget_errors() {
    if (ERR_peek_error()) {
        ERR_clear_error();
    }
}

bool us_tls_use_ticket_keys(SSL_CTX *context, us_tls_ticket_keys_t *keys);  // which outlive it

// tls/config.cpp
bool us_tls_config_may_ask(const us_tls_config_t *config, SSL *ssl, std::string_view host);

// tls/bio.cpp
BIO *us_tls_bio_new(us_tls_state_t *state);
bool us_tls_put(us_tls_state_t *state, const void *data, size_t length);  // false: US_TLS_OUT_MAX
void us_tls_push(us_tls_state_t *state);  // the family's buffer to the kernel, the rest to the socket's own
int us_tls_push_own(us_tls_state_t *state);  // 0, or -1 with errno
