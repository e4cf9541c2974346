// secure_pipe.h - a pipe_t, or the same over TLS. What is said before the handshake is done waits for it.
#pragma once

#include "pipe.h"

#include "../cpp/support/tls_client.h"

#include <optional>
#include <utility>

class secure_pipe_t {
  public:
    std::string heard;

    secure_pipe_t(instance_server_t &server, bool over_tls) : pipe_(server) {
        if (over_tls) tls_.emplace().begin(std::exchange(pipe_.fd, -1));
    }

    // Not sent yet: flush() does that.
    void say(std::string_view text) { unsaid_ += text; }
    // The next `most` bytes of what the network sees. False: nothing is left.
    bool flush(size_t most = SIZE_MAX) {
        if (!tls_) {
            const std::string_view piece = std::string_view(unsaid_).substr(0, most);
            pipe_.say(piece);
            unsaid_.erase(0, piece.size());
            return !unsaid_.empty();
        }
        size_t n = 0;
        if (tls_->established() && !tls_->error && !unsaid_.empty()) {
            ERR_clear_error();
            if (SSL_write_ex(tls_->ssl, unsaid_.data(), unsaid_.size(), &n) == 1) unsaid_.clear();
            tls_->collect();
        }
        const size_t before = tls_->outgoing.size();
        tls_->send_some(most);
        return !tls_->outgoing.empty() && tls_->outgoing.size() < before;
    }
    // Past TLS.
    void disturb(std::string_view bytes) { tls_ ? (void) tls_->outgoing.append(bytes) : say(bytes); }
    void hear() {
        if (!tls_) {
            pipe_.hear();
            heard += std::exchange(pipe_.heard, {});
            return;
        }
        tls_->listen_in();
        tls_->think();
        heard += std::exchange(tls_->received, {});
    }
    bool is_ready() const { return !tls_ || tls_->established() || tls_->error || tls_->tcp_ended; }
    void finish(bool notify) {
        if (tls_ && notify && tls_->established()) tls_->close_notify(), tls_->send_some();
        shutdown(tls_ ? tls_->fd : pipe_.fd, SHUT_WR);
    }

  private:
    pipe_t pipe_;
    std::optional<tls_client_t> tls_;
    std::string unsaid_;
};
