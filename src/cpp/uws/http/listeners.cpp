#include "uws/http/listeners.h"

#include <cerrno>
#include <utility>

#include "usockets/tcp/listen.h"
#include "usockets/tcp/listen_unix.h"
#include "uws/upstream/uwebsockets.h"

namespace uwserve {

namespace {

constexpr int kHttpSocketBytes = sizeof(uWS::HttpResponseData<false>);

// How often a port that the kernel has chosen for one address may be in use at another.
constexpr int kPortTries = 32;

// The machine does not have the address family, or has switched it off. Such addresses of a name are left out if others
// work.
bool is_missing_family(int error) { return error == EADDRNOTAVAIL || error == EAFNOSUPPORT; }

}  // namespace

std::optional<ListenError> Listeners::listen_tcp(const std::vector<std::string> &hosts, int port, bool reuse_port,
                                                 bool ipv6_only) {
    listeners_.reserve(hosts.size());
    const int flags = reuse_port ? LIBUS_LISTEN_DEFAULT : LIBUS_LISTEN_EXCLUSIVE_PORT;
    for (int tries = kPortTries;;) {
        ListenError failed;
        int bound_port = port;
        for (const std::string &host : hosts) {
            // Beside others, an IPv6 socket must leave the IPv4 addresses to IPv4 sockets.
            bool is_v6_only = hosts.size() > 1 ? host.find(':') != std::string::npos : ipv6_only;
            errno = 0;
            us_listen_socket_t *made =
                us_socket_context_listen(0, context_, host.c_str(), bound_port,
                                         flags | (is_v6_only ? LIBUS_LISTEN_IPV6_ONLY : 0), kHttpSocketBytes);
            if (made) {
                listeners_.push_back(made);
                bound_port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(made));
                continue;
            }
            if (!failed.host || !is_missing_family(errno)) failed = {errno, us_gai_error(), host.c_str()};
            if (!is_missing_family(failed.number)) break;
        }
        if (!failed.host || (is_missing_family(failed.number) && !listeners_.empty())) return std::nullopt;
        if (port || failed.number != EADDRINUSE || !--tries) return failed;
        close();
    }
}

std::optional<ListenError> Listeners::listen_unix(std::string_view path, int mode) {
    listeners_.reserve(1);
    errno = 0;
    return add(us_listen_unix(context_, path.data(), path.size(), mode, kHttpSocketBytes));
}

std::optional<ListenError> Listeners::listen_fds(const std::vector<int> &fds) {
    listeners_.reserve(fds.size());
    ListenAddress address;
    for (int fd : fds) {
        if (auto failed = add(us_listen_fd(context_, fd, kHttpSocketBytes, &address))) return failed;
    }
    return std::nullopt;
}

std::optional<ListenError> Listeners::add(us_listen_socket_t *listener) {
    if (!listener) return ListenError{errno};
    listeners_.push_back(listener);
    return std::nullopt;
}

void Listeners::close() {
    for (us_listen_socket_t *listener : std::exchange(listeners_, {})) us_listen_socket_close(0, listener);
}

std::vector<ListenAddress> Listeners::addresses() const {
    std::vector<ListenAddress> found;
    for (us_listen_socket_t *listener : listeners_) {
        ListenAddress address;
        if (us_listen_socket_address(listener, &address)) found.push_back(address);
    }
    return found;
}

std::vector<int> Listeners::descriptors() const {
    std::vector<int> found;
    for (us_listen_socket_t *listener : listeners_) found.push_back(us_listen_socket_fd(listener));
    return found;
}

}  // namespace uwserve
