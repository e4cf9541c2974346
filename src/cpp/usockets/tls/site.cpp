// tls/site.cpp - one SSL_CTX from the PEM texts of one entry.
//
// Every site has: TLS 1.2 at least, no compression, no renegotiation, forward secrecy and AEAD in TLS 1.2 unless
// `ciphers` says otherwise, sessions in tickets only (no session cache), buffers that are released when idle.
//
// A ticket is valid for one site of one configuration: the configuration owns the keys (tls/tickets.cpp), and the
// session id context is a digest of the site's names and of its demands on client certificates, so that no ticket
// carries a client past another site's certificate check.
//
// No key or passphrase gets into an error text; OpenSSL's own texts contain none.

#include "usockets/tls/site.h"

#include "usockets/loop/loop.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstring>
#include <memory>

// AES with 128 bits first: no known attack comes near it, and its ten rounds take a quarter to a third less time than
// the fourteen of 256 bits.
static constexpr char DEFAULT_SUITES13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static constexpr char DEFAULT_CIPHERS[] = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20";  // of TLS 1.2

using bio_t = std::unique_ptr<BIO, decltype(&BIO_free)>;
using certificate_t = std::unique_ptr<X509, decltype(&X509_free)>;

static bio_t bio_of(std::string_view text) {
    bio_t bio(BIO_new_mem_buf(text.data(), (int) text.size()), BIO_free);
    if (!bio) {
        us_out_of_memory();
    }
    return bio;
}

// Empties this thread's error queue into one text.
static std::string openssl_errors() {
    std::string text;
    while (const unsigned long error = ERR_get_error()) {
        const char *reason = ERR_reason_error_string(error);
        char buffer[128];
        if (!reason) {
            ERR_error_string_n(error, buffer, sizeof(buffer));
            reason = buffer;
        }
        if (text.find(reason) == std::string::npos) {
            text += text.empty() ? "OpenSSL: " : "; ";
            text += reason;
        }
    }
    return text.empty() ? "OpenSSL gave no reason" : text;
}

static bool refuse(us_tls_error_t *error, const char *option, const char *what) {
    error->option = option;
    error->text = std::string(what) + " (" + openssl_errors() + ")";
    return false;
}

// OpenSSL reports the end of a PEM text as an error.
static bool at_end_of_pem() {
    const unsigned long error = ERR_peek_last_error();
    const bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (at_end) {
        ERR_clear_error();
    }
    return at_end;
}

// Keeps OpenSSL from asking for a passphrase on the terminal.
static int no_passphrase(char *, int, int, void *) { return 0; }

// The next certificate of a text; null at its end, or when it is not valid.
static certificate_t next_certificate(const bio_t &bio) {
    return {PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr), X509_free};
}

static bool use_certificate(SSL_CTX *context, std::string_view pem, us_tls_error_t *error) {
    const bio_t bio = bio_of(pem);
    const certificate_t leaf(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr), X509_free);
    if (!leaf) {
        return refuse(error, "cert", "holds no certificate in PEM form");
    }
    if (SSL_CTX_use_certificate(context, leaf.get()) != 1) {
        return refuse(error, "cert", "is not acceptable");
    }
    while (const certificate_t next = next_certificate(bio)) {
        if (SSL_CTX_add1_chain_cert(context, next.get()) != 1) {
            return refuse(error, "cert", "has a chain that is not acceptable");
        }
    }
    return at_end_of_pem() || refuse(error, "cert", "has a chain that is not valid");
}

struct passphrase_t {
    std::string_view text;
    bool asked;
};

static int give_passphrase(char *buffer, int size, int, void *user) {
    passphrase_t *passphrase = (passphrase_t *) user;
    passphrase->asked = true;
    if (!passphrase->text.data() || passphrase->text.size() > (size_t) size) {
        return -1;
    }
    memcpy(buffer, passphrase->text.data(), passphrase->text.size());
    return (int) passphrase->text.size();
}

static bool use_key(SSL_CTX *context, const us_tls_entry_t &entry, us_tls_error_t *error) {
    const bio_t bio = bio_of(entry.key);
    passphrase_t passphrase{entry.passphrase, false};
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio.get(), nullptr, give_passphrase, &passphrase);
    if (!key && passphrase.asked) {
        return entry.passphrase.data() ? refuse(error, "passphrase", "does not open the key")
                                       : refuse(error, "passphrase", "is missing: the key is encrypted");
    }
    if (!key) {
        return refuse(error, "key", "holds no private key in PEM form");
    }
    const bool used = SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    return used || refuse(error, "key", "does not belong to the certificate");
}

static bool use_authorities(SSL_CTX *context, std::string_view pem, us_tls_error_t *error) {
    const bio_t bio = bio_of(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    int count = 0;
    while (const certificate_t authority = next_certificate(bio)) {
        // The server sends this name, so that clients can choose a certificate.
        if (X509_STORE_add_cert(store, authority.get()) != 1 || SSL_CTX_add_client_CA(context, authority.get()) != 1) {
            return refuse(error, "ca", "has a certificate that is not acceptable");
        }
        count++;
    }
    if (!at_end_of_pem()) {
        return refuse(error, "ca", "has a certificate that is not valid");
    }
    // Each certificate in `ca` is trusted, root or not.
    return count ? X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1
                 : refuse(error, "ca", "holds no certificate in PEM form");
}

// `ciphers` is one list for all versions, but OpenSSL has a separate function for TLS 1.3 suites.
static bool use_ciphers(us_tls_site_t *site, std::string_view given, us_tls_error_t *error) {
    std::string older;
    for (size_t start = 0; start <= given.size();) {
        size_t end = given.find_first_of(":, ", start);
        end = end == std::string_view::npos ? given.size() : end;
        const std::string_view name = given.substr(start, end - start);
        start = end + 1;
        if (!name.empty()) {
            std::string &list = name.starts_with("TLS_") ? site->suites13 : older;
            list.append(list.empty() ? "" : ":").append(name);
        }
    }
    if (site->suites13.empty()) {
        site->suites13 = DEFAULT_SUITES13;
    } else if (older.empty() && SSL_CTX_set_min_proto_version(site->context, TLS1_3_VERSION) != 1) {
        return refuse(error, "ciphers", "cannot be set");
    }
    if (SSL_CTX_set_ciphersuites(site->context, site->suites13.c_str()) != 1) {
        return refuse(error, "ciphers", "names an unknown TLS 1.3 suite");
    }
    if (SSL_CTX_set_cipher_list(site->context, older.empty() ? DEFAULT_CIPHERS : older.c_str()) != 1) {
        return refuse(error, "ciphers", "matches no cipher");
    }
    return true;
}

// RFC 7301: without a protocol in common the handshake ends with the alert no_application_protocol.
static int select_protocol(SSL *, const unsigned char **out, unsigned char *out_length, const unsigned char *offered,
                           unsigned int offered_length, void *user) {
    const us_tls_site_t *site = (const us_tls_site_t *) user;
    unsigned char *chosen = nullptr;
    const int answer = SSL_select_next_proto(&chosen, out_length, (const unsigned char *) site->alpn.data(),
                                             (unsigned int) site->alpn.size(), offered, offered_length);
    *out = chosen;
    return answer == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool use_protocols(us_tls_site_t *site, const std::vector<std::string> &protocols, us_tls_error_t *error) {
    for (const std::string &protocol : protocols) {
        if (protocol.empty() || protocol.size() > 255) {
            error->option = "alpn_protocols";
            error->text = "has a name that is not 1 to 255 bytes long (RFC 7301)";
            return false;
        }
        site->alpn += (char) (unsigned char) protocol.size();
        site->alpn += protocol;
    }
    if (!site->alpn.empty()) {
        SSL_CTX_set_alpn_select_cb(site->context, select_protocol, site);
    }
    return true;
}

static std::string demands_of(const us_tls_entry_t &entry) {
    std::string demands(entry.request_cert ? "request" : "none");
    demands += entry.reject_unauthorized ? " reject" : " accept";
    return demands.append("\n").append(entry.ca);
}

static bool set_session_context(SSL_CTX *context, const us_tls_entry_t &entry) {
    std::string facts;
    for (const std::string &name : entry.server_names) {
        facts.append(name).append(" ");
    }
    facts.append("\n").append(demands_of(entry));
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    static_assert(SSL_MAX_SID_CTX_LENGTH == 32, "as long as a SHA-256 digest");
    return EVP_Digest(facts.data(), facts.size(), digest, &length, EVP_sha256(), nullptr) == 1 &&
           SSL_CTX_set_session_id_context(context, digest, length) == 1;
}

static int accept_any(int, X509_STORE_CTX *) { return 1; }

bool us_tls_site_open(us_tls_site_t *site, const us_tls_entry_t &entry, us_tls_error_t *error) {
    ERR_clear_error();
    SSL_CTX *context = site->context = SSL_CTX_new(TLS_server_method());
    if (!context) {
        return refuse(error, "cert", "OpenSSL cannot be used");
    }
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 || SSL_CTX_set_dh_auto(context, 1) != 1 ||
        !set_session_context(context, entry)) {
        return refuse(error, "cert", "OpenSSL cannot be set up");
    }
    if (entry.request_cert) {
        site->demands = demands_of(entry);
        site->verify_mode = SSL_VERIFY_PEER | (entry.reject_unauthorized ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
        site->verify = entry.reject_unauthorized ? nullptr : accept_any;
        SSL_CTX_set_verify(context, site->verify_mode, site->verify);
    }
    return use_ciphers(site, entry.ciphers, error) && use_certificate(context, entry.cert, error) &&
           use_key(context, entry, error) && (!entry.ca.data() || use_authorities(context, entry.ca, error)) &&
           use_protocols(site, entry.alpn, error);
}
