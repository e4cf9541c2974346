// test_listen_fd.cpp - listening on a descriptor that somebody else has bound: what is taken, what is refused and left as it
// was, and two loops on one socket.
#include "server.h"
#include "usockets/tcp/listen_fd.h"

namespace {

int bound_socket(int family = AF_INET, int type = SOCK_STREAM) {
    const int fd = socket(family, type, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0);
    if (family == AF_INET) {
        CHECK_EQ(bind(fd, (sockaddr *) &address, sizeof(address)), 0);
    }
    return fd;
}

int listening_socket() {
    const int fd = bound_socket();
    CHECK_EQ(listen(fd, 100), 0);
    return fd;
}

bool is_ours(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) && (fcntl(fd, F_GETFL) & O_NONBLOCK); }

std::string text_of(const us_listen_address_t &where) { return std::string(where.text, (size_t) where.length); }

}  // namespace

TEST(tcp_is_served_and_closed) {
    server_t server(false);
    const int fd = listening_socket();
    us_listen_address_t where;
    us_listen_socket_t *listener = us_listen_fd(server.http.context, fd, 32, &where);
    CHECK(listener);
    CHECK(is_ours(fd));
    CHECK(text_of(where) == "127.0.0.1");
    CHECK_EQ(where.port, us_socket_local_port(0, (us_socket_t *) listener));
    const int client = dial(where.port);
    server.pump_until(server.http.opened, 1);
    say(client, "hello");
    server.pump([&] { return server.http.received == "hello"; });
    int no_delay = 0;
    socklen_t length = sizeof(no_delay);
    CHECK_EQ(getsockopt(server.http.last->fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
    CHECK(no_delay);
    us_listen_socket_close(0, listener);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    close(client);
}

TEST(unix_is_served_and_its_path_left_alone) {
    server_t server(false);
    const std::string path = "/tmp/us-listen-fd-" + std::to_string(getpid());
    const std::string name = std::string(1, 0) + "us-listen-fd-" + std::to_string(getpid());
    for (const std::string &where : {path, name}) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        memcpy(address.sun_path, where.data(), where.size());
        const socklen_t length = (socklen_t) (offsetof(sockaddr_un, sun_path) + where.size() + (where[0] != 0));
        const int fd = bound_socket(AF_UNIX);
        CHECK_EQ(bind(fd, (sockaddr *) &address, length), 0);
        CHECK_EQ(listen(fd, 10), 0);
        us_listen_address_t shown;
        us_listen_socket_t *listener = us_listen_fd(server.http.context, fd, 32, &shown);
        CHECK(listener);
        CHECK_EQ(shown.port, -1);
        CHECK(text_of(shown) == where);
        const int client = socket(AF_UNIX, SOCK_STREAM, 0), before = server.http.opened;
        CHECK_EQ(connect(client, (sockaddr *) &address, length), 0);
        server.pump_until(server.http.opened, before + 1);
        close(client);
        us_listen_socket_close(0, listener);
    }
    CHECK_EQ(access(path.c_str(), F_OK), 0);
    unlink(path.c_str());
}

TEST(others_are_refused_and_stay_as_they_were) {
    server_t server(false);
    us_listen_address_t where;
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    const struct {
        int fd, error;
    } cases[] = {
        {open("/dev/null", O_RDONLY), ENOTSOCK},
        {bound_socket(AF_INET, SOCK_DGRAM), ESOCKTNOSUPPORT},
        {bound_socket(AF_UNIX, SOCK_SEQPACKET), ESOCKTNOSUPPORT},
        {bound_socket(), EINVAL},
        {bound_socket(AF_UNIX), EINVAL},
        {pair[0], EINVAL},
    };
    for (auto [fd, error] : cases) {
        CHECK(!us_listen_fd(server.http.context, fd, 32, &where));
        CHECK_EQ(errno, error);
        CHECK(fcntl(fd, F_GETFD) == 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
        close(fd);
        CHECK(!us_listen_fd(server.http.context, fd, 32, &where) && errno == EBADF);
    }
    CHECK(!us_listen_fd(server.http.context, -1, 32, &where) && errno == EBADF);
    CHECK_EQ(server.loop->num_polls, 0);
    close(pair[1]);
}

// Each system call fails in turn; the descriptor is then still the caller's, open and listening.
TEST(every_system_call_fails_once) {
    const int fd = listening_socket();
    const int before = count_fds();
    static int calls, fail_at;
    static bool asked_where;  // among these calls: none comes when the descriptor is taken
    bool done = false;
    for (fail_at = 1; !done; fail_at++) {
        CHECK(fail_at < 20);
        server_t server(false);
        const int copy = dup(fd);
        calls = 0;
        us_sys_hook = [](us_sys_call_t call, size_t *) {
            asked_where |= call == US_SYS_GETSOCKNAME;
            return ++calls == fail_at ? ENOMEM : 0;
        };
        us_listen_address_t where;
        us_listen_socket_t *listener = us_listen_fd(server.http.context, copy, 32, &where);
        us_sys_hook = nullptr;
        done = calls < fail_at;
        CHECK_EQ(listener != nullptr, done);
        if (!listener) {
            CHECK_EQ(errno, ENOMEM);
            int is_listening = 0;
            socklen_t length = sizeof(is_listening);
            CHECK_EQ(getsockopt(copy, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &length), 0);
            CHECK(is_listening);
            close(copy);
        }
    }
    CHECK(fail_at > 6);
    CHECK(asked_where);
    CHECK_EQ(count_fds(), before);
    close(fd);
}

// Two loops, as two processes would: each connection is accepted by one, and when one leaves, what waits in the queue is
// the other's.
TEST(two_loops_share_a_socket) {
    const int fd = listening_socket();
    server_t other(false);
    us_listen_address_t where;
    us_listen_socket_t *second = us_listen_fd(other.http.context, dup(fd), 32, &where);
    CHECK(second);
    {
        server_t first(false);
        us_listen_socket_t *listener = us_listen_fd(first.http.context, fd, 32, &where);
        CHECK(listener);
        std::vector<int> clients;
        for (int i = 0; i < 10; i++) clients.push_back(dial(where.port));
        first.pump_until(first.http.opened, 10);
        us_loop_iterate(other.loop, 0);  // was told as well, and finds nothing
        CHECK_EQ(other.http.opened, 0);
        for (int i = 0; i < 10; i++) clients.push_back(dial(where.port));
        us_listen_socket_close(0, listener);
        for (int i = 0; i < 3; i++) us_loop_iterate(first.loop, 0);
        CHECK_EQ(first.http.opened, 10);
        other.pump_until(other.http.opened, 10);
        for (int client : clients) close(client);
    }
    other.pump_until(other.http.closed, 10);
}
