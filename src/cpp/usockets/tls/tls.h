// tls/tls.h - TLS for the sockets of a context, by OpenSSL 3.
//
// A configuration is made from PEM texts once and never changes; it is reference counted, and may be made and dropped
// on any thread. A context takes a reference (us_socket_context_set_tls), each connection another one at accept, so
// that new connections use a new configuration and the old one lives as long as its last connection.
//
// The layers above include this file, so it has none of OpenSSL's types.

#pragma once

#include "usockets/libusockets.h"

#include <string>
#include <string_view>
#include <vector>

// One certificate and its settings. Views without data (NULL) are "not given". us_tls_config_new() copies what it
// needs.
struct us_tls_entry_t {
    std::string_view key, cert;  // PEM; cert with its chain, leaf first
    std::string_view ca;  // PEM: the authorities that may issue client certificates
    std::string_view passphrase;  // of the key
    std::string_view ciphers;  // OpenSSL's names and expressions, TLS 1.3 suites among them
    std::vector<std::string> alpn;  // in order of preference; empty: no ALPN
    std::vector<std::string> server_names;  // "example.com", "*.example.com"; A-labels
    bool request_cert = false, reject_unauthorized = true;
};

struct us_tls_error_t {
    size_t entry = 0;
    const char *option = "";  // the faulty member of us_tls_entry_t
    std::string text;  // the fault, with OpenSSL's reasons; never a key or a passphrase
};

struct us_tls_config_t;

// The first entry serves clients that name no host or an unknown one. nullptr with *error.
us_tls_config_t *us_tls_config_new(const std::vector<us_tls_entry_t> &entries, us_tls_error_t *error);
void us_tls_config_ref(us_tls_config_t *config);
void us_tls_config_unref(us_tls_config_t *config);

// Sets the configuration of new connections of the context and of its children. The first call turns a context without
// sockets into one that speaks TLS, for good. False: the context has plain sockets or is a child.
bool us_socket_context_set_tls(us_socket_context_t *context, us_tls_config_t *config);

// The timeout of a whole handshake, for new connections; then the connection is closed. 0, the default: none here.
void us_socket_context_tls_deadline(us_socket_context_t *context, unsigned int seconds);

struct us_tls_info_t {
    const char *version, *cipher;  // "TLSv1.3", "TLS_AES_256_GCM_SHA384"
    std::string server_name, alpn;  // empty: none
    std::string peer_certificate;  // DER; empty: the client has sent none
    const char *verify_error;  // nullptr: the certificate was verified, or there is none
    bool resumed;
};
// False: not TLS, or the handshake is not done.
bool us_socket_tls_info(us_socket_t *s, us_tls_info_t *info);

// Whether a request on this connection may name `host` (with or without a port): false when the site of that name
// demands a client certificate, and its demands differ from those of the site of the handshake. True without TLS.
bool us_socket_tls_may_ask(us_socket_t *s, std::string_view host);

// The library's own version text: `built` against, or in use. Any thread.
const char *us_tls_library(int built);
