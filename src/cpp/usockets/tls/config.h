// tls/config.h - a TLS configuration: its sites, and the choice between them by server name.

#pragma once

#include "usockets/tls/site.h"
#include "usockets/tls/tickets.h"

#include <atomic>
#include <unordered_map>

struct us_tls_config_t {
    std::atomic<int> references{1};
    us_tls_ticket_keys_t ticket_keys;
    std::vector<us_tls_site_t> sites;  // not resized after it was built
    bool has_demands = false;  // the sites differ in their demands on client certificates
    std::unordered_map<std::string, size_t> exact, wildcard;  // "example.com"; the wildcard's without its "*."
};

// See us_socket_tls_may_ask().
bool us_tls_config_may_ask(const us_tls_config_t *config, SSL *ssl, std::string_view host);
