// tls/tickets.cpp - the keys of session tickets (RFC 5077, RFC 8446 4.6.1), which rotate by themselves.
//
// With a stolen ticket key, TLS 1.2 traffic under its tickets can be decrypted, so keys are short-lived: a key seals
// tickets for one period, and opens them for one period more, when the client gets a new ticket. Each configuration has
// its own keys. OpenSSL calls the callback of the context that a connection began with, so all sites share the keys.
//
// Loop thread only.

#include "usockets/tls/tickets.h"

#include "usockets/loop/sys.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstring>
#include <initializer_list>

static int index_of_keys() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

static bool is_good(const us_tls_ticket_key_t &key, uint64_t now, uint64_t period) {
    return key.made_ns && now - key.made_ns < period;
}

// Makes sure that keys->current may seal; false when random bytes cannot be had.
static bool renew(us_tls_ticket_keys_t *keys, uint64_t now) {
    if (is_good(keys->current, now, keys->period_ns)) {
        return true;
    }
    us_tls_ticket_key_t fresh;
    if (RAND_bytes(fresh.name, sizeof(fresh.name)) != 1 || RAND_priv_bytes(fresh.cipher, sizeof(fresh.cipher)) != 1 ||
        RAND_priv_bytes(fresh.mac, sizeof(fresh.mac)) != 1) {
        return false;
    }
    fresh.made_ns = now;
    keys->previous = keys->current;
    keys->current = fresh;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return true;
}

static bool use(const us_tls_ticket_key_t &key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                int sealing) {
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *) key.mac, sizeof(key.mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *) "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher, iv, sealing) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

// OpenSSL's contract: 1 go on, 2 go on and replace the ticket, 0 the ticket is unknown, -1 fail the handshake.
static int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                      int sealing) {
    us_tls_ticket_keys_t *keys = (us_tls_ticket_keys_t *) SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), index_of_keys());
    const uint64_t now = us_sys_now_ns();
    if (sealing) {
        if (!renew(keys, now) || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) {
            return -1;
        }
        memcpy(name, keys->current.name, sizeof(keys->current.name));
        return use(keys->current, iv, cipher, mac, sealing) ? 1 : -1;
    }
    for (const us_tls_ticket_key_t *key : {&keys->current, &keys->previous}) {
        if (is_good(*key, now, 2 * keys->period_ns) && memcmp(name, key->name, sizeof(key->name)) == 0) {
            const bool replace = !is_good(*key, now, keys->period_ns);
            return !use(*key, iv, cipher, mac, sealing) ? -1 : replace ? 2 : 1;
        }
    }
    return 0;
}

bool us_tls_use_ticket_keys(SSL_CTX *context, us_tls_ticket_keys_t *keys) {
    return SSL_CTX_set_ex_data(context, index_of_keys(), keys) == 1 &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key) == 1;
}

us_tls_ticket_keys_t::~us_tls_ticket_keys_t() {
    OPENSSL_cleanse(&current, sizeof(current));
    OPENSSL_cleanse(&previous, sizeof(previous));
}
