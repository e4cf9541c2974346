// TLS as a client of a benchmark needs it: TLS 1.3 and AES-GCM, no verification, no resumption, so that every handshake is
// a full one. OpenSSL never sees the socket: ciphertext comes and goes in large pieces, many records with one call.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

namespace load {

class TlsContext {
  public:
    TlsContext();
    SSL *make_session() const;

  private:
    struct Free {
        void operator()(SSL_CTX *context) const { SSL_CTX_free(context); }
        void operator()(BIO_METHOD *method) const { BIO_meth_free(method); }
    };
    std::unique_ptr<SSL_CTX, Free> context_;
    std::unique_ptr<BIO_METHOD, Free> method_;
};

// One connection's. Failures throw std::runtime_error. Its address stays the same: OpenSSL knows it.
class TlsSession {
  public:
    explicit TlsSession(const TlsContext &context);
    ~TlsSession() { SSL_free(ssl_); }
    TlsSession(const TlsSession &) = delete;
    TlsSession &operator=(const TlsSession &) = delete;

    // The next ciphertext from the server. All of it is used by the calls of handshake() or read() that follow.
    void feed(std::string_view ciphertext) { incoming_ = ciphertext; }
    // Goes on with the handshake; true when it is done.
    bool handshake();
    // The next plaintext, into that buffer; 0: more ciphertext is needed.
    size_t read(char *buffer, size_t size);
    void write(const char *data, size_t size);
    // What is to be sent. The caller removes what was.
    std::string &outgoing() { return outgoing_; }

  private:
    friend class TlsContext;
    static int bio_read(BIO *bio, char *data, size_t size, size_t *done);
    static int bio_write(BIO *bio, const char *data, size_t size, size_t *done);
    static long bio_ctrl(BIO *bio, int command, long number, void *pointer);
    [[noreturn]] static void fail(const char *what);

    SSL *ssl_;
    std::string_view incoming_;
    std::string outgoing_;
};

}  // namespace load
