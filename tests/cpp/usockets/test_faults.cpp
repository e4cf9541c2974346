// test_faults.cpp - every system call of a whole scenario fails in turn (faults.h), with each errno that fits some call.
//
// Whatever fails, on_close is called once per socket that was opened, and nothing leaks (the address sanitizer looks at
// exit).
#include "faults.h"
#include "server.h"
#include "usockets/tcp/listen_unix.h"
#include "usockets/tcp/read.h"

#include <set>

struct sockets_t {
    std::set<us_socket_t *> open;
    void watch(context_t &context) {
        context.open = [this](us_socket_t *s) { CHECK(open.insert(s).second); };
    }
};

// Listen, accept three, echo in several pieces with backpressure, adopt one, half-close, draining close, timers, unix socket.
static void scenario() {
    us_loop_t *loop = server_t::make_loop();
    if (loop->error) {
        us_loop_free(loop);
        return;
    }
    context_t http(us_create_socket_context(0, loop, sizeof(void *), {}));
    context_t ws(us_create_child_socket_context(0, http.context, sizeof(void *)));
    http.data = [&](us_socket_t *s, char *data, int length) {
        us_socket_timeout(0, s, 10);
        if (data[0] == 'u') {
            s = us_socket_context_adopt_socket(0, ws.context, s, 100);
            us_socket_write(0, s, "upgraded", 8, 0);
        } else if (data[0] == 'e') {
            us_socket_write(0, s, "error", 5, 0);
            us_socket_shutdown(0, s);
            us_socket_close(0, s, 0, nullptr);
        } else {
            us_socket_write(0, s, data, length, 0);
        }
    };
    ws.data = [&](us_socket_t *s, char *data, int length) {
        std::string payload(300000, 'p');
        us_socket_write2(0, s, data, length < 10 ? length : 10, payload.data(), (int) payload.size());
        us_socket_write(0, s, data, length, 1);
        us_socket_pause(s, US_PAUSE_USER);
        us_socket_shutdown(0, s);
    };
    ws.writable = [&](us_socket_t *s) { us_socket_write(0, s, "drained", 7, 0); };

    us_listen_socket_t *listener =
        us_socket_context_listen(0, http.context, nullptr, 0, LIBUS_LISTEN_EXCLUSIVE_PORT, 32);
    const std::string path = "/tmp/us-fault-" + std::to_string(getpid());
    us_listen_socket_t *unix_listener = us_listen_unix(http.context, path.data(), path.size(), 0600, 8);
    us_wakeup_loop(loop);
    us_timer_t *timer = us_create_timer(loop, 0, 0);
    us_timer_set(timer, [](us_timer_t *) {}, 1, 0);
    int fds[4], count = 0;
    const int port = listener ? us_socket_local_port(0, (us_socket_t *) listener) : -1;
    if (port > 0) {
        for (const char *first : {"echo", "upgrade", "hello"}) {
            const int fd = fds[count++] = dial(port, 4096);
            say(fd, first[0] == 'h' ? "err" : first);
        }
    }
    if (unix_listener) {
        const int fd = fds[count++] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        strcpy(address.sun_path, path.c_str());
        CHECK_EQ(connect(fd, (sockaddr *) &address, sizeof(address)), 0);
        send(fd, "unix", 4, MSG_NOSIGNAL);
    }
    for (int i = 0; i < 12; i++) {
        us_loop_iterate(loop, i < 2 ? 2 : 0);
        for (int k = 0; k < count; k++) {
            if (i == 4) send(fds[k], "again", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (i > 5) hear(fds[k]);
        }
    }
    for (int k = 0; k < count; k++) {
        k == 0 ? reset(fds[k]) : (void) close(fds[k]);
    }
    for (int i = 0; i < 5; i++) us_loop_iterate(loop, 0);
    us_socket_context_close(0, http.context);
    us_socket_context_close(0, ws.context);
    us_loop_iterate(loop, 0);
    CHECK_EQ(http.opened, http.closed + ws.closed);
    CHECK_EQ(loop->num_polls, 0);
    CHECK_EQ(loop->num_blocked, 0);
    us_timer_close(timer);
    us_socket_context_free(0, http.context);
    us_socket_context_free(0, ws.context);
    us_loop_free(loop);
    unlink(path.c_str());
}

TEST(every_system_call_fails_once) {
    const int most = every_call_fails({EMFILE, ENOMEM, EINTR, ECONNRESET, EAGAIN, EPIPE}, scenario);
    printf("  %d calls in the longest run\n", most);
    CHECK(most > 80);
}

TEST(every_kind_of_call_fails_always) { every_kind_of_call_fails({EMFILE, ENOMEM, ECONNRESET, EAGAIN}, scenario); }

// Each transfer is cut to one byte: the stream must not care.
TEST(one_byte_at_a_time) {
    server_t server;
    us_sys_hook = [](us_sys_call_t call, size_t *length) {
        if (call == US_SYS_SEND || call == US_SYS_RECV) *length = 1;
        return 0;
    };
    std::string backlog;
    auto drain = [&](us_socket_t *s) {
        while (!backlog.empty() && !s->blocked)
            backlog.erase(0, (size_t) us_socket_write(0, s, backlog.data(), (int) backlog.size(), 1));
    };
    server.http.data = [&](us_socket_t *s, char *data, int length) {
        backlog.append(data, (size_t) length);
        drain(s);
    };
    server.http.writable = drain;
    const int fd = server.connect_client();
    std::string text, heard;
    for (int i = 0; i < 500; i++) text += std::to_string(i);
    say(fd, text);
    server.pump([&] { return (heard += hear(fd)).size() == text.size(); });
    us_sys_hook = nullptr;
    CHECK(heard == text);
    close(fd);
}
