// pipe.h - a client of an instance_server_t over a socket pair.
#pragma once

#include "../cpp/support/instance_server.h"

#include <sys/socket.h>
#include <unistd.h>

constexpr std::string_view kPlainHandshake =
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

struct pipe_t {
    int fd = -1;
    std::string heard;
    bool ended = false;

    explicit pipe_t(instance_server_t &server) {
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        fd = pair[0];
        if (!server.adopt(pair[1])) close(pair[1]);
    }
    ~pipe_t() { leave(); }
    pipe_t(const pipe_t &) = delete;

    void say(std::string_view text) {
        if (fd >= 0 && !text.empty()) (void) !send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    void hear() {
        static char buffer[1 << 18];
        while (fd >= 0 && !ended) {
            const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
            if (n < 0 && errno == EAGAIN) return;
            if (n <= 0) {
                ended = true;
                return;
            }
            heard.append(buffer, (size_t) n);
        }
    }
    void finish() {
        if (fd >= 0) shutdown(fd, SHUT_WR);
    }
    void leave() {
        if (fd >= 0) close(fd);
        fd = -1;
    }
};
