// tls/tls.h - TLS for the sockets of a context, by OpenSSL 3.
//
// A configuration is made from PEM texts once and never changes; it is reference counted, and may be made and dropped on
// any thread. A context takes a reference (us_socket_context_set_tls), each connection another one at accept, so that a
// new configuration counts for new connections and the old one lives as long as its last connection.
//
// Nothing here shows OpenSSL's types: the layers above include this file, and OpenSSL stays in tls*.cpp.

#pragma once

#include "usockets/libusockets.h"

#include <string>
#include <string_view>
#include <vector>

// One certificate and what goes with it. Views without data (NULL) are "not given"; the texts are used before
// us_tls_config_new() returns and not kept.
struct us_tls_entry_t {
    std::string_view key, cert;  // PEM; cert with its chain, leaf first
    std::string_view ca;  // PEM: who may issue the certificates of clients
    std::string_view passphrase;  // of the key
    std::string_view ciphers;  // OpenSSL's names and expressions, TLS 1.3 suites among them
    std::vector<std::string> alpn;  // in order of preference; empty: no ALPN
    std::vector<std::string> server_names;  // "example.com", "*.example.com"; A-labels
    bool request_cert = false, reject_unauthorized = true;
};

struct us_tls_error_t {
    size_t entry = 0;
    const char *option = "";  // the member of us_tls_entry_t that is to blame
    std::string text;  // what is wrong, with OpenSSL's words; never a key or a passphrase
};

struct us_tls_config_t;

// The first entry serves clients that name no host or an unknown one. nullptr with *error.
us_tls_config_t *us_tls_config_new(const std::vector<us_tls_entry_t> &entries, us_tls_error_t *error);
void us_tls_config_ref(us_tls_config_t *config);
void us_tls_config_unref(us_tls_config_t *config);

// The configuration of new connections from now on, of the context and of its children. The first call turns a context
// without sockets into one that speaks TLS; there is no way back. False: the context has plain sockets or is a child.
bool us_socket_context_set_tls(us_socket_context_t *context, us_tls_config_t *config);

// From now on a handshake may take so long, however its bytes come; then the connection is closed. 0, as at first: as long as
// the layer above lets it.
void us_socket_context_tls_deadline(us_socket_context_t *context, unsigned int seconds);

struct us_tls_info_t {
    const char *version, *cipher;  // "TLSv1.3", "TLS_AES_256_GCM_SHA384"
    std::string server_name, alpn;  // empty: none
    std::string peer_certificate;  // DER; empty: the client has sent none
    const char *verify_error;  // nullptr: there is a certificate and it was verified
    bool resumed;
};
// False: not TLS, or the handshake is not done.
bool us_socket_tls_info(us_socket_t *s, us_tls_info_t *info);

// Whether a request on this connection may name `host` (with or without a port): false when the site that has the name asks
// for a client certificate, and not on the same terms as the site that the handshake was with. True without TLS.
bool us_socket_tls_may_ask(us_socket_t *s, std::string_view host);

// The library as it names itself: `built` against, or in use. Any thread.
const char *us_tls_library(int built);
