// tls/site.h - one certificate of a configuration: tls/site.cpp makes it, tls/config.cpp chooses it.

#pragma once

#include "usockets/tls/tls.h"

#include <openssl/ssl.h>

// One entry of a configuration. The strings must live as long as `context`, which refers to them in handshakes.
struct us_tls_site_t {
    SSL_CTX *context = nullptr;
    std::string suites13;  // SSL_set_SSL_CTX() does not copy them
    std::string alpn;  // in wire format
    std::string demands;  // on client certificates: equal for two sites that admit the same clients; empty: none
    int verify_mode = SSL_VERIFY_NONE;
    SSL_verify_cb verify = nullptr;
};

// Fills a site whose address will not change. False with *error; if site->context was made, the caller must free it.
bool us_tls_site_open(us_tls_site_t *site, const us_tls_entry_t &entry, us_tls_error_t *error);
