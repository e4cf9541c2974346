// test_listening.cpp - ports and addresses, unix paths, and running out of descriptors.
#include "server.h"
#include "usockets/tcp/listen.h"
#include "usockets/tcp/listen_unix.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <utility>
#include <vector>

static us_listen_socket_t *listen_on(server_t &server, const char *host, int port,
                                     int options = LIBUS_LISTEN_EXCLUSIVE_PORT) {
    return us_socket_context_listen(0, server.http.context, host, port, options, 16);
}

static int port_of(us_listen_socket_t *listener) { return us_socket_local_port(0, (us_socket_t *) listener); }

TEST(port_in_use) {
    server_t server;
    errno = 0;
    CHECK(!listen_on(server, "127.0.0.1", server.port) && errno == EADDRINUSE);
    CHECK(!listen_on(server, nullptr, 70000) && errno == EINVAL);
    CHECK(!listen_on(server, nullptr, -1) && errno == EINVAL);
    us_listen_socket_t *any = listen_on(server, nullptr, 0);
    CHECK(any);
    CHECK(!listen_on(server, nullptr, port_of(any)) && errno == EADDRINUSE);
}

TEST(shared_port_only_on_request) {
    server_t server;
    us_listen_socket_t *first = listen_on(server, "127.0.0.1", 0, LIBUS_LISTEN_DEFAULT);
    CHECK(first);
    CHECK(listen_on(server, "127.0.0.1", port_of(first), LIBUS_LISTEN_DEFAULT));
    CHECK(!listen_on(server, "127.0.0.1", port_of(first)) && errno == EADDRINUSE);
}

TEST(hosts) {
    server_t server;
    for (const char *host : {"127.0.0.1", "0.0.0.0", "localhost", "::1", "::", ""}) {
        us_listen_socket_t *listener = listen_on(server, host, 0);
        if (!listener && strchr(host, ':')) continue; // a machine without IPv6
        CHECK(listener && port_of(listener) > 0);
        us_listen_socket_close(0, listener);
        us_listen_socket_close(0, listener);
    }
    CHECK(!listen_on(server, "no.such.host.invalid", 0));
    CHECK(us_gai_error() != 0);
    CHECK(!listen_on(server, "192.0.2.1", 0) && errno == EADDRNOTAVAIL); // not an address of ours
    CHECK_EQ(us_gai_error(), 0);
}

// host NULL serves IPv4 and IPv6; an IPv4 peer of the dual-stack socket keeps its mapped 16-byte address.
TEST(every_address_is_dual_stack) {
    server_t server(false);
    us_listen_socket_t *listener = listen_on(server, nullptr, 0);
    CHECK(listener);
    const int fd = dial(port_of(listener));
    server.pump_until(server.http.opened, 1);
    char ip[16];
    int length = 16;
    us_socket_remote_address(0, server.http.last, ip, &length);
    CHECK(length == 4 || (length == 16 && !memcmp(ip + 10, "\xff\xff\x7f\0\0\1", 6)));
    int small = 3;
    us_socket_remote_address(0, server.http.last, ip, &small);
    CHECK_EQ(small, 0);
    close(fd);
    us_listen_socket_t *only = listen_on(server, nullptr, 0, LIBUS_LISTEN_EXCLUSIVE_PORT | LIBUS_LISTEN_IPV6_ONLY);
    if (only) {
        const int v4 = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons((uint16_t) port_of(only));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK(connect(v4, (sockaddr *) &address, sizeof(address)) != 0);
        close(v4);
    }
}

TEST(falls_back_to_ipv4_without_ipv6) {
    server_t server(false);
    static int sockets;
    sockets = 0;
    us_sys_hook = [](us_sys_call_t call, size_t *) {
        return call == US_SYS_SOCKET && sockets++ == 0 ? EAFNOSUPPORT : 0;
    };
    us_listen_socket_t *listener = listen_on(server, nullptr, 0);
    us_sys_hook = nullptr;
    CHECK(listener);
    const int fd = dial(port_of(listener));
    server.pump_until(server.http.opened, 1);
    CHECK_EQ(server.http.last->ip_length, 4);
    close(fd);
}

TEST(listener_closed_inside_its_accept_loop) {
    server_t server;
    server.http.open = [&](us_socket_t *) { us_listen_socket_close(0, server.listener); };
    const int a = dial(server.port), b = dial(server.port), c = dial(server.port);
    server.pump_until(server.http.opened, 1);
    for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.http.opened, 1);
    for (int fd : {a, b, c}) close(fd);
}

// What the kernel says of a listening socket: connections that wait, and how many may.
static std::pair<unsigned, unsigned> queue_of(us_listen_socket_t *listener) {
    const int fd = (int) (intptr_t) us_socket_get_native_handle(0, (us_socket_t *) listener);
    tcp_info info{};
    socklen_t length = sizeof(info);
    CHECK_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return {info.tcpi_unacked, info.tcpi_sacked};
}

static unsigned somaxconn() {
    unsigned most = 0;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "r");
    CHECK(file && fscanf(file, "%u", &most) == 1);
    fclose(file);
    return most;
}

// 4,096 may wait in the kernel, or as many as the machine lets. The figures of docs/security.md.
TEST(a_turn_accepts_128_connections_and_the_rest_wait) {
    server_t server;
    const unsigned most = somaxconn();
    CHECK_EQ(queue_of(server.listener).second, most < 4096 ? most : 4096u);
    CHECK(most >= 300);  // else the last of these would never connect
    std::vector<int> clients;
    for (int i = 0; i < 300; i++) clients.push_back(dial(server.port));
    CHECK_EQ(queue_of(server.listener).first, 300);
    for (const int accepted : {128, 256, 300}) {
        us_loop_iterate(server.loop, 100);
        CHECK_EQ(server.http.opened, accepted);
        CHECK_EQ(queue_of(server.listener).first, 300 - accepted);
    }
    for (const int fd : clients) close(fd);
}

TEST(context_closed_inside_accept_loop) {
    server_t server;
    server.http.open = [&](us_socket_t *) { us_socket_context_close(0, server.http.context); };
    const int a = dial(server.port), b = dial(server.port);
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(server.loop->num_polls, 0);
    close(a);
    close(b);
}

TEST(tls_is_refused_for_now) {
    server_t server(false);
    CHECK(!us_create_socket_context(1, server.loop, 8, {}) && errno == EOPNOTSUPP);
}

// ---- unix ----

struct folder_t {
    std::string path;
    folder_t() {
        char name[] = "/tmp/us-test-XXXXXX";
        CHECK(mkdtemp(name));
        path = name;
    }
    ~folder_t() {
        CHECK_EQ(entries(), 0); // every test must leave it empty
        rmdir(path.c_str());
    }
    int entries() const {
        int count = -2;
        DIR *folder = opendir(path.c_str());
        while (readdir(folder)) count++;
        closedir(folder);
        return count;
    }
};

static us_listen_socket_t *listen_at(server_t &server, const std::string &path, int mode = -1) {
    return us_listen_unix(server.http.context, path.data(), path.size(), mode, 16);
}

static int dial_unix(const std::string &path, int *error = nullptr) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    CHECK(path.size() < sizeof(address.sun_path));
    memcpy(address.sun_path, path.data(), path.size());
    const socklen_t length = (socklen_t) (offsetof(sockaddr_un, sun_path) + path.size() + (path[0] != 0));
    if (connect(fd, (sockaddr *) &address, length) != 0) {
        if (error) *error = errno;
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static mode_t mode_of(const std::string &path) {
    struct stat st;
    CHECK_EQ(lstat(path.c_str(), &st), 0);
    return st.st_mode;
}

TEST(unix_echo_and_cleanup) {
    folder_t folder;
    server_t server(false);
    const std::string path = folder.path + "/s";
    us_listen_socket_t *listener = listen_at(server, path, 0666);
    CHECK(listener);
    CHECK_EQ(mode_of(path), S_IFSOCK | 0666);
    CHECK_EQ(folder.entries(), 1); // no temporary name left
    CHECK_EQ(us_socket_local_port(0, (us_socket_t *) listener), -1);
    server.http.data = [](us_socket_t *s, char *data, int length) { us_socket_write(0, s, data, length, 0); };
    const int fd = dial_unix(path);
    say(fd, "unix");
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "unix"; });
    CHECK_EQ(server.http.last->ip_length, 0);
    CHECK(!listen_at(server, path) && errno == EADDRINUSE);
    CHECK_EQ(folder.entries(), 1);
    us_listen_socket_close(0, listener);
    CHECK_EQ(folder.entries(), 0);
    close(fd);
}

TEST(unix_modes) {
    folder_t folder;
    server_t server(false);
    const mode_t old = umask(027);
    us_listen_socket_t *a = listen_at(server, folder.path + "/a", 0600), *b = listen_at(server, folder.path + "/b");
    const std::string third = folder.path + "/c";
    us_listen_socket_t *c = us_listen_unix(server.http.context, third.data(), third.size(), -1, 16);
    umask(old);
    CHECK(a && b && c);
    CHECK_EQ(mode_of(folder.path + "/a") & 0777, 0600);
    CHECK_EQ(mode_of(folder.path + "/b") & 0777, 0750);
    CHECK_EQ(mode_of(folder.path + "/c") & 0777, 0750);
}

TEST(unix_paths_that_exist) {
    folder_t folder;
    server_t server(false);
    const std::string path = folder.path + "/x";
    // a file
    close(open(path.c_str(), O_CREAT | O_WRONLY, 0600));
    CHECK(!listen_at(server, path) && errno == EEXIST);
    CHECK(S_ISREG(mode_of(path)));
    unlink(path.c_str());
    // a symbolic link, even to nothing
    CHECK_EQ(symlink("/nonexistent", path.c_str()), 0);
    CHECK(!listen_at(server, path) && errno == EEXIST);
    unlink(path.c_str());
    // a stale socket is replaced
    const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    CHECK_EQ(bind(stale, (sockaddr *) &address, sizeof(address)), 0);
    close(stale);
    us_listen_socket_t *listener = listen_at(server, path);
    CHECK(listener);
    close(dial_unix(path));
    // somebody replaces ours: closing must leave his alone
    unlink(path.c_str());
    const int other = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(bind(other, (sockaddr *) &address, sizeof(address)), 0);
    us_listen_socket_close(0, listener);
    CHECK_EQ(folder.entries(), 1);
    close(other);
    unlink(path.c_str());
    // a datagram socket is somebody's
    const int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_EQ(bind(datagram, (sockaddr *) &address, sizeof(address)), 0);
    CHECK(!listen_at(server, path) && errno == EADDRINUSE);
    close(datagram);
    unlink(path.c_str());
    // a folder that does not exist
    CHECK(!listen_at(server, folder.path + "/no/x") && errno == ENOENT);
}

TEST(unix_path_lengths) {
    folder_t folder;
    server_t server(false);
    CHECK(!listen_at(server, "") && errno == EINVAL);
    CHECK(!listen_at(server, std::string("/tmp/a\0b", 8)) && errno == EINVAL);
    CHECK(!listen_at(server, std::string(108, 'a')) && errno == ENAMETOOLONG);
    CHECK(!us_listen_unix(server.http.context, std::string(500, 'a').c_str(), 500, -1, 0) && errno == ENAMETOOLONG);
    // the longest: too long for a temporary name beside it, both with a long name and in a long folder
    const std::string longest = folder.path + "/" + std::string(107 - folder.path.size() - 1, 'n');
    CHECK_EQ(longest.size(), 107);
    us_listen_socket_t *listener = listen_at(server, longest, 0640);
    CHECK(listener);
    CHECK_EQ(mode_of(longest) & 0777, 0640);
    close(dial_unix(longest));
    us_listen_socket_close(0, listener);
    const std::string deep = folder.path + "/" + std::string(105 - folder.path.size() - 1, 'd');
    CHECK_EQ(mkdir(deep.c_str(), 0700), 0);
    listener = listen_at(server, deep + "/s", 0640);
    CHECK(listener);
    CHECK_EQ(mode_of(deep + "/s") & 0777, 0640);
    close(dial_unix(deep + "/s"));
    us_listen_socket_close(0, listener);
    CHECK_EQ(rmdir(deep.c_str()), 0);
}

TEST(unix_abstract_names) {
    server_t server(false);
    const std::string name = std::string(1, 0) + "us-test-" + std::to_string(getpid());
    us_listen_socket_t *listener = listen_at(server, name);
    CHECK(listener);
    CHECK(!listen_at(server, name) && errno == EADDRINUSE);
    const int fd = dial_unix(name);
    CHECK(fd >= 0);
    server.pump_until(server.http.opened, 1);
    close(fd);
}

TEST(unix_listener_goes_with_its_context) {
    folder_t folder;
    server_t server(false);
    CHECK(listen_at(server, folder.path + "/s"));
}

// ---- out of descriptors ----

// In a child, as the limit is the process's. The waiting connection must not make the loop spin, and is served as soon
// as there is a descriptor for it.
static void out_of_descriptors() {
    server_t server;
    const int first = dial(server.port), second = dial(server.port);
    const int spare = dup(0);
    rlimit limit{};
    limit.rlim_cur = limit.rlim_max = (rlim_t) spare + 1;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    close(spare); // room for one
    {
        count_calls_t count;
        const uint64_t start = us_sys_now_ns();
        while (us_sys_now_ns() - start < 500'000'000) us_loop_iterate(server.loop, 50);
        CHECK_EQ(server.http.opened, 1);
        CHECK(count[US_SYS_ACCEPT] >= 3 && count[US_SYS_ACCEPT] <= 6);
        CHECK(count[US_SYS_EPOLL_WAIT] <= 30);
    }
    close(first);
    server.pump_until(server.http.opened, 2);
    close(second);
    server.pump_until(server.http.closed, 2);
}

TEST(out_of_descriptors_backs_off_and_recovers) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        out_of_descriptors();
        _exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(listener_closed_while_it_backs_off) {
    server_t server;
    us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_ACCEPT ? EMFILE : 0; };
    const int fd = dial(server.port);
    us_loop_iterate(server.loop, 100);
    us_listen_socket_close(0, server.listener);
    us_sys_hook = nullptr;
    us_loop_iterate(server.loop, 0);
    close(fd);
}

TEST(aborted_connection_does_not_stop_accepting) {
    server_t server;
    static int accepts;
    accepts = 0;
    us_sys_hook = [](us_sys_call_t call, size_t *) {
        return call == US_SYS_ACCEPT && accepts++ == 0 ? ECONNABORTED : 0;
    };
    const int fd = dial(server.port);
    us_loop_iterate(server.loop, 1000);
    us_sys_hook = nullptr;
    CHECK_EQ(server.http.opened, 1);
    close(fd);
}
