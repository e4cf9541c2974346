// tls/tickets.h - the keys of session tickets.

#pragma once

#include <openssl/ssl.h>

#include <cstdint>

struct us_tls_ticket_key_t {
    unsigned char name[16], cipher[32], mac[32];
    uint64_t made_ns = 0;  // 0: there is none
};
struct us_tls_ticket_keys_t {
    us_tls_ticket_key_t current, previous;
    uint64_t period_ns = 4ull * 3600 * 1'000'000'000;
    ~us_tls_ticket_keys_t();
};

bool us_tls_use_ticket_keys(SSL_CTX *context, us_tls_ticket_keys_t *keys);  // `keys` must outlive `context`
