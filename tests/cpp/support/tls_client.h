// tls_client.h - certificates made on the spot, and a TLS client whose every byte the test controls.
//
// The client is OpenSSL on memory BIOs: what it wants to send is in `outgoing` until the test sends it, whole, in pieces, or
// not at all. Nothing here waits; the server's pump() does.
#pragma once

#include "usockets/loop/state.h"
#include "server.h"
#include "usockets/tls/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct identity_t {
    std::string key, cert;  // PEM
};

inline std::string pem_of(const std::function<int(BIO *)> &write) {
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(write(bio) == 1);
    char *data = nullptr;
    const long length = BIO_get_mem_data(bio, &data);
    std::string text(data, (size_t) length);
    BIO_free(bio);
    return text;
}

// Self-signed and its own authority. `rsa_bits` 0: P-256, which takes no time to make.
inline identity_t make_identity(const char *name, unsigned rsa_bits = 0, const char *passphrase = nullptr) {
    EVP_PKEY *key = rsa_bits ? EVP_RSA_gen(rsa_bits) : EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    CHECK(key && certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), (long) (us_sys_now_ns() & 0x7fffffff));
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    CHECK(X509_sign(certificate, key, EVP_sha256()) > 0);
    identity_t made;
    made.cert = pem_of([&](BIO *bio) { return PEM_write_bio_X509(bio, certificate); });
    made.key = pem_of([&](BIO *bio) {
        return PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase ? EVP_aes_128_cbc() : nullptr, passphrase,
                                             passphrase ? (int) strlen(passphrase) : 0, nullptr, nullptr);
    });
    X509_free(certificate);
    EVP_PKEY_free(key);
    return made;
}

inline us_tls_entry_t entry_of(const identity_t &identity) {
    us_tls_entry_t entry;
    entry.key = identity.key;
    entry.cert = identity.cert;
    entry.alpn = {"http/1.1"};
    return entry;
}

inline us_tls_config_t *make_config(const std::vector<us_tls_entry_t> &entries) {
    us_tls_error_t error;
    us_tls_config_t *config = us_tls_config_new(entries, &error);
    if (!config) {
        fprintf(stderr, "%s: %s\n", error.option, error.text.c_str());
    }
    CHECK(config);
    return config;
}

inline const identity_t &localhost() {
    static const identity_t identity = make_identity("localhost");
    return identity;
}

inline void use_tls(us_socket_context_t *context, const std::vector<us_tls_entry_t> &entries) {
    us_tls_config_t *config = make_config(entries);
    CHECK(us_socket_context_set_tls(context, config));
    us_tls_config_unref(config);
}

struct tls_server_t : server_t {
    tls_server_t() { use_tls(http.context, {entry_of(localhost())}); }
    explicit tls_server_t(const std::vector<us_tls_entry_t> &entries) { use_tls(http.context, entries); }
};

struct tls_client_t {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = nullptr;
    int fd = -1;
    std::string outgoing, received;
    bool tcp_ended = false, peer_closed = false;
    int alert = 0;  // the fatal one that the server has sent
    unsigned long error = 0;

    explicit tls_client_t(int version = 0) {
        CHECK_EQ(SSL_CTX_set_min_proto_version(context, version), 1);
        CHECK_EQ(SSL_CTX_set_max_proto_version(context, version), 1);
    }
    ~tls_client_t() {
        SSL_free(ssl);
        SSL_CTX_free(context);
        if (fd >= 0) close(fd);
    }
    tls_client_t(const tls_client_t &) = delete;

    void begin(int descriptor, const char *server_name = nullptr, SSL_SESSION *session = nullptr) {
        fd = descriptor;
        ssl = SSL_new(context);
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(ssl);
        SSL_set_app_data(ssl, this);
        SSL_set_info_callback(ssl, [](const SSL *s, int where, int value) {
            if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && value >> 8 == SSL3_AL_FATAL) {
                ((tls_client_t *) SSL_get_app_data(s))->alert = value & 255;
            }
        });
        if (server_name) CHECK_EQ(SSL_set_tlsext_host_name(ssl, server_name), 1);
        if (session) CHECK_EQ(SSL_set_session(ssl, session), 1);
        think();
    }
    bool established() const { return SSL_is_init_finished(ssl); }

    // Lets OpenSSL work on what has come in and collects what it wants to send.
    void think() {
        ERR_clear_error();
        char buffer[16384];
        size_t n = 0;
        int answer;
        while ((answer = SSL_read_ex(ssl, buffer, sizeof(buffer), &n)) > 0) received.append(buffer, n);
        const int what = SSL_get_error(ssl, answer);
        peer_closed |= what == SSL_ERROR_ZERO_RETURN;
        if (what == SSL_ERROR_SSL && !error) error = ERR_peek_error();
        collect();
    }
    void collect() {
        char buffer[16384];
        int n;
        while ((n = BIO_read(SSL_get_wbio(ssl), buffer, sizeof(buffer))) > 0) outgoing.append(buffer, (size_t) n);
    }
    void send_some(size_t most = SIZE_MAX) {
        const size_t length = outgoing.size() < most ? outgoing.size() : most;
        const ssize_t n = length ? send(fd, outgoing.data(), length, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (n > 0) outgoing.erase(0, (size_t) n);
    }
    void listen_in() {
        char buffer[65536];
        ssize_t n;
        while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
            CHECK_EQ(BIO_write(SSL_get_rbio(ssl), buffer, (int) n), n);
        }
        tcp_ended |= n == 0;
    }
    // One exchange in both directions, as far as it goes without waiting.
    void turn() {
        send_some();
        listen_in();
        think();
        send_some();
    }
    void write(const std::string &text) {
        size_t n = 0;
        CHECK_EQ(SSL_write_ex(ssl, text.data(), text.size(), &n), 1);
        collect();
    }
    void close_notify() {
        SSL_shutdown(ssl);
        collect();
    }

    void handshake(server_t &server) {
        server.pump([&] {
            turn();
            return established() || error || tcp_ended;
        });
        CHECK(established());
    }
    void connect(server_t &server, const char *server_name = nullptr, SSL_SESSION *session = nullptr) {
        begin(dial(server.port), server_name, session);
        handshake(server);
        us_tls_info_t info;  // the client is done first
        server.pump([&] {
            turn();
            return us_socket_tls_info(server.http.last, &info);
        });
    }
    void expect(server_t &server, const std::string &text) {
        server.pump([&] {
            turn();
            return received.size() >= text.size();
        });
        CHECK(received == text);
        received.clear();
    }
    std::string peer_name() const {
        char name[256] = "";
        X509 *certificate = SSL_get0_peer_certificate(ssl);
        CHECK(certificate);
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
        return name;
    }
};

inline void echo(context_t &context) {
    context.data = [](us_socket_t *s, char *data, int length) {
        CHECK_EQ(us_socket_write(0, s, data, length, 0), length);
    };
}
