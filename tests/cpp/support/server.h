// server/core.h - a loop with one context whose callbacks are lambdas, and clients that are plain descriptors.
//
// Everything runs in the test's own thread: the kernel's buffers are what makes client and server concurrent. pump()
// iterates the loop until a condition holds and fails the test after five seconds; no test sleeps to wait for something.
#pragma once

#include "check.h"
#include "usockets/libusockets.h"
#include "usockets/loop/sys.h"
#include "usockets/loop/loop.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <functional>
#include <poll.h>
#include <signal.h>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct context_t {
    using event_t = std::function<void(us_socket_t *)>;
    us_socket_context_t *context;
    event_t open, writable, end, timeout, long_timeout;
    std::function<void(us_socket_t *, char *, int)> data;
    std::function<void(us_socket_t *, int, void *)> close;
    int opened = 0, closed = 0;
    std::string received;
    us_socket_t *last = nullptr;  // opened last

    static context_t *of(us_socket_t *s) { return *(context_t **) us_socket_context_ext(0, us_socket_context(0, s)); }

    explicit context_t(us_socket_context_t *made) : context(made) {
        *(context_t **) us_socket_context_ext(0, context) = this;
        us_socket_context_on_open(0, context, [](us_socket_t *s, int, char *, int) {
            context_t *self = of(s);
            self->opened++;
            self->last = s;
            if (self->open) self->open(s);
            return s;
        });
        us_socket_context_on_close(0, context, [](us_socket_t *s, int code, void *reason) {
            context_t *self = of(s);
            CHECK(us_socket_is_closed(0, s));
            self->closed++;
            if (self->close) self->close(s, code, reason);
            return s;
        });
        us_socket_context_on_data(0, context, [](us_socket_t *s, char *data, int length) {
            context_t *self = of(s);
            CHECK(length > 0 && length <= LIBUS_RECV_BUFFER_LENGTH);
            memset(data - 16, 0x5a, 16);  // the scribbling that parsers do
            memset(data + length, 0x5a, 32);
            if (self->data) {
                self->data(s, data, length);
            } else {
                self->received.append(data, (size_t) length);
            }
            return s;
        });
        us_socket_context_on_writable(0, context, [](us_socket_t *s) { return call(s, of(s)->writable); });
        us_socket_context_on_timeout(0, context, [](us_socket_t *s) { return call(s, of(s)->timeout); });
        us_socket_context_on_long_timeout(0, context, [](us_socket_t *s) { return call(s, of(s)->long_timeout); });
        us_socket_context_on_end(0, context, [](us_socket_t *s) {
            if (of(s)->end) {
                of(s)->end(s);
            } else {
                us_socket_close(0, s, 0, nullptr);
            }
            return s;
        });
    }

    static us_socket_t *call(us_socket_t *s, const event_t &f) {
        if (f) f(s);
        return s;
    }
};

struct server_t {
    us_loop_t *loop;
    context_t http;
    us_listen_socket_t *listener = nullptr;
    int port = 0;
    inline static int wakeups = 0, pres = 0, posts = 0;
    inline static std::function<void()> on_post = nullptr, on_wakeup = nullptr;

    static us_loop_t *make_loop() {
        wakeups = pres = posts = 0;
        on_post = nullptr;
        on_wakeup = nullptr;
        return us_create_loop(nullptr, [](us_loop_t *loop) {
            CHECK(loop->depth > 0);
            wakeups++;
            if (on_wakeup) on_wakeup();
        }, [](us_loop_t *) { pres++; }, [](us_loop_t *) {
            posts++;
            if (on_post) on_post();
        }, 0);
    }

    explicit server_t(bool listening = true)
        : loop(make_loop()), http(us_create_socket_context(0, loop, sizeof(void *), {})) {
        CHECK_EQ(loop->error, 0);
        if (listening) {
            listener = us_socket_context_listen(0, http.context, "127.0.0.1", 0, LIBUS_LISTEN_EXCLUSIVE_PORT, 64);
            CHECK(listener);
            port = us_socket_local_port(0, (us_socket_t *) listener);
            CHECK(port > 0);
        }
    }

    ~server_t() {
        us_socket_context_free(0, http.context);
        us_loop_free(loop);
        on_post = nullptr;
        on_wakeup = nullptr;
    }

    void pump(const std::function<bool()> &until, int seconds = 5) {
        const uint64_t deadline = us_sys_now_ns() + (uint64_t) seconds * 1'000'000'000;
        while (!until()) {
            CHECK(us_sys_now_ns() < deadline);
            us_loop_iterate(loop, 5);
        }
    }
    void pump_until(const int &value, int wanted) {
        pump([&] { return value == wanted; });
    }

    // A connected client, accepted by the server.
    int connect_client(int receive_buffer = 0);
};

inline int dial(int port, int receive_buffer = 0) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (receive_buffer) {
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer)), 0);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t) port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(connect(fd, (sockaddr *) &address, sizeof(address)), 0);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

inline int server_t::connect_client(int receive_buffer) {
    const int before = http.opened;
    const int fd = dial(port, receive_buffer);
    pump_until(http.opened, before + 1);
    return fd;
}

inline void say(int fd, const std::string &text) {
    CHECK_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), text.size());
}

// What can be read now; *ended is set at EOF, or to -errno at an error.
inline std::string hear(int fd, int *ended = nullptr) {
    std::string out;
    char buffer[65536];
    for (;;) {
        const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n > 0) {
            out.append(buffer, (size_t) n);
            continue;
        }
        if (ended) {
            *ended = n == 0 ? 1 : errno == EAGAIN ? 0 : -errno;
        }
        return out;
    }
}

inline void reset(int fd) {
    const linger now{1, 0};
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

inline int count_fds() {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count;
}

// Counts system calls while it lives.
struct count_calls_t {
    inline static int calls[US_SYS_COUNT];
    count_calls_t() {
        memset(calls, 0, sizeof(calls));
        us_sys_hook = [](us_sys_call_t call, size_t *) {
            calls[call]++;
            return 0;
        };
    }
    ~count_calls_t() { us_sys_hook = nullptr; }
    int operator[](us_sys_call_t call) const { return calls[call]; }
    int writes() const { return calls[US_SYS_SEND] + calls[US_SYS_SENDMSG]; }
};
