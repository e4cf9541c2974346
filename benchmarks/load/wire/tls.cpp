#include "wire/tls.h"

#include <openssl/err.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

namespace load {

TlsContext::TlsContext()
    : context_(SSL_CTX_new(TLS_client_method())), method_(BIO_meth_new(BIO_TYPE_SOURCE_SINK, "load")) {
    if (!context_ || !method_) throw std::bad_alloc();
    SSL_CTX *context = context_.get();
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    BIO_meth_set_read_ex(method_.get(), TlsSession::bio_read);
    BIO_meth_set_write_ex(method_.get(), TlsSession::bio_write);
    BIO_meth_set_ctrl(method_.get(), TlsSession::bio_ctrl);
}

SSL *TlsContext::make_session() const {
    SSL *ssl = SSL_new(context_.get());
    BIO *bio = BIO_new(method_.get());
    if (!ssl || !bio) throw std::bad_alloc();
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_connect_state(ssl);
    return ssl;
}

TlsSession::TlsSession(const TlsContext &context) : ssl_(context.make_session()) {
    BIO_set_data(SSL_get_rbio(ssl_), this);
}

int TlsSession::bio_read(BIO *bio, char *data, size_t size, size_t *done) {
    auto *self = static_cast<TlsSession *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    *done = std::min(size, self->incoming_.size());
    if (!*done) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(data, self->incoming_.data(), *done);
    self->incoming_.remove_prefix(*done);
    return 1;
}

int TlsSession::bio_write(BIO *bio, const char *data, size_t size, size_t *done) {
    static_cast<TlsSession *>(BIO_get_data(bio))->outgoing_.append(data, size);
    *done = size;
    return 1;
}

long TlsSession::bio_ctrl(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

void TlsSession::fail(const char *what) {
    char text[200] = "no reason is known";
    if (unsigned long error = ERR_get_error()) ERR_error_string_n(error, text, sizeof(text));
    ERR_clear_error();
    throw std::runtime_error(std::string(what) + ": " + text);
}

bool TlsSession::handshake() {
    int result = SSL_do_handshake(ssl_);
    if (result == 1) return true;
    if (SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) fail("the TLS handshake failed");
    return false;
}

size_t TlsSession::read(char *buffer, size_t size) {
    if (incoming_.empty() && !SSL_has_pending(ssl_)) return 0;
    size_t done = 0;
    int result = SSL_read_ex(ssl_, buffer, size, &done);
    if (result == 1) return done;
    int error = SSL_get_error(ssl_, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_ZERO_RETURN) fail("TLS");
    return 0;
}

void TlsSession::write(const char *data, size_t size) {
    size_t done = 0;
    if (size && SSL_write_ex(ssl_, data, size, &done) != 1) fail("TLS");
}

}  // namespace load
