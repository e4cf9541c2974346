// tcp/listen.cpp - listen sockets: TCP addresses, and accepting.
//
// A listen socket belongs to its context and keeps the loop running. Accepting goes in bursts; on_open may close the
// listen socket (or its context) in mid-burst, so `closed` is checked after each one, and the block stays allocated
// until the end of the iteration.
//
// Out of descriptors or memory, accept() fails while the connection stays queued and level-triggered epoll would report
// it for ever (defect U3). Then epoll ignores the listener for US_ACCEPT_PAUSE_MS.
//
// host NULL means every address: one dual-stack IPv6 socket, or IPv4 where there is no IPv6. A port that is in use is
// an error, never a reason to try the other family. TCP_NODELAY (no Nagle) is set on the listen socket, and accepted
// sockets inherit it.

#include "usockets/tcp/listen.h"

#include "usockets/loop/poll.h"
#include "usockets/proxy/proxy.h"
#include "usockets/tcp/draining_close.h"
#include "usockets/tcp/listen_unix.h"
#include "usockets/tcp/socket.h"

#include <netdb.h>

#include <algorithm>
#include <iterator>

constexpr int US_ACCEPT_BURST = 128;
constexpr int US_ACCEPT_PAUSE_MS = 200;

static thread_local int resolver_error;

int us_gai_error() { return resolver_error; }

us_listen_socket_t *us_listener_new(us_socket_context_t *context, int fd, int socket_ext_size) {
    us_listen_socket_t *listener = (us_listen_socket_t *) us_alloc_zeroed(sizeof(us_listen_socket_t));
    listener->s.context = context;
    listener->s.fd = fd;
    listener->socket_ext_size = socket_ext_size;
    if (us_epoll_set(context->loop, EPOLL_CTL_ADD, fd, EPOLLIN, listener, US_KIND_LISTENER) != 0) {
        us_keep_errno_t keep;
        free(listener);
        return nullptr;
    }
    us_list_push(context->listen_head_, listener);
    context->loop->num_polls++;
    return listener;
}

void us_listen_socket_close(int, us_listen_socket_t *listener) {
    if (listener->s.closed) {
        return;
    }
    us_socket_context_t *context = listener->s.context;
    listener->s.closed = true;
    if (listener->retry) {
        us_timer_close(listener->retry);
    }
    us_proxied_close_for(listener);
    us_listener_unpublish(listener);  // before close(), after which another file could get the same inode number
    if (listener->s.fd >= 0) {
        us_epoll_remove(context->loop->internal_, listener->s.fd);
        us_sys_close(listener->s.fd);
        listener->s.fd = -1;
    }
    us_list_remove(context->listen_head_, listener);
    context->loop->num_polls--;
    us_socket_free_later(&listener->s);
}

// ---- accepting ----

static void poll_again(us_timer_t *timer) {
    us_listen_socket_t *listener = *(us_listen_socket_t **) us_timer_ext(timer);
    if (us_epoll_set(listener->s.context->loop, EPOLL_CTL_MOD, listener->s.fd, EPOLLIN, listener, US_KIND_LISTENER) !=
        0) {
        us_timer_set(timer, poll_again, US_ACCEPT_PAUSE_MS, 0);
    }
}

// For the reason in errno.
[[gnu::cold]] static void pause_accepting(us_listen_socket_t *listener) {
    us_socket_context_t *context = listener->s.context;
    us_loop_t *loop = context->loop;
    if (context->cb.on_accept_error) {
        context->cb.on_accept_error(context, errno);
    }
    if (us_epoll_set(loop, EPOLL_CTL_MOD, listener->s.fd, 0, listener, US_KIND_LISTENER) != 0) {
        return;
    }
    if (!listener->retry) {
        listener->retry = us_create_timer(loop, 0, sizeof(listener));
        *(us_listen_socket_t **) us_timer_ext(listener->retry) = listener;
    }
    us_timer_set(listener->retry, poll_again, US_ACCEPT_PAUSE_MS, 0);
}

// Errors that concern one connection only (accept(2)). All others persist: above all EMFILE, ENFILE, ENOBUFS and
// ENOMEM.
static bool is_of_one_connection(int error) {
    static constexpr int errors[] = {EINTR,    ECONNABORTED, ECONNRESET, EPERM,        EPROTO, ENOPROTOOPT,
                                     ENETDOWN, ENETUNREACH,  EHOSTDOWN,  EHOSTUNREACH, ENONET, ETIMEDOUT};
    return std::find(std::begin(errors), std::end(errors), error) != std::end(errors);
}

void us_listener_event(us_listen_socket_t *listener) {
    for (int burst = 0; burst < US_ACCEPT_BURST && !listener->s.closed; burst++) {
        sockaddr_storage address;
        socklen_t length = sizeof(address);
        address.ss_family = AF_UNSPEC;
        int fd = us_sys_accept4(listener->s.fd, (sockaddr *) &address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        us_socket_context_t *context = listener->s.context;
        if (fd < 0) {
            if (errno == EAGAIN) {
                return;
            }
            const bool out_of_descriptors = errno == EMFILE || errno == ENFILE;
            if (!is_of_one_connection(errno) &&
                !(out_of_descriptors && us_draining_make_room(context->loop, nullptr))) {
                pause_accepting(listener);
                return;
            }
            continue;
        }
        if (context->cb.on_accept && !context->cb.on_accept(context, &fd)) [[unlikely]] {
            us_sys_reset_on_close(fd);
            us_sys_close(fd);
            continue;
        }
        us_socket_t *s = nullptr;  // none until the PROXY header has arrived
        const bool kept = us_proxy_expected(context, &address)
                              ? us_proxy_await(listener, fd, &address)
                              : (s = us_socket_new(context, fd, (unsigned int) listener->socket_ext_size)) != nullptr;
        if (!kept) {
            us_sys_close(fd);
            pause_accepting(listener);
            return;
        }
        if (s) [[likely]] {
            us_socket_set_address(s, &address);
            us_contain(context->loop, s, [s] { us_socket_open(s); });
        }
    }
}

// ---- TCP ----

// The first error of bind or listen is more useful to users than the error of a family that this machine does not have.
struct first_error_t {
    int value = 0;
    bool from_bind = false;
    void note(int error, bool at_bind) {
        if (!value || (at_bind && !from_bind)) {
            value = error;
            from_bind = at_bind;
        }
    }
};

static us_listen_socket_t *listen_at(us_socket_context_t *context, const sockaddr *address, socklen_t length,
                                     int options, int socket_ext_size, first_error_t *error) {
    const int fd = us_sys_socket(address->sa_family);
    if (fd < 0) {
        error->note(errno, false);
        return nullptr;
    }
    us_listen_socket_t *listener = nullptr;
    const bool shared = !(options & LIBUS_LISTEN_EXCLUSIVE_PORT), v6_only = options & LIBUS_LISTEN_IPV6_ONLY;
    if (us_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 ||
        us_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0 ||
        (shared && us_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        (address->sa_family == AF_INET6 && us_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only) != 0)) {
        error->note(errno, false);
    } else if (us_sys_bind(fd, address, length) != 0 || us_sys_listen(fd, US_BACKLOG) != 0 ||
               !(listener = us_listener_new(context, fd, socket_ext_size))) {
        error->note(errno, true);
    }
    if (!listener) {
        us_sys_close(fd);
    }
    return listener;
}

static us_listen_socket_t *listen_everywhere(us_socket_context_t *context, int port, int options, int ext,
                                             first_error_t *error) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_any;
    v6.sin6_port = htons((uint16_t) port);
    us_listen_socket_t *listener = listen_at(context, (sockaddr *) &v6, sizeof(v6), options, ext, error);
    if (listener || (options & LIBUS_LISTEN_IPV6_ONLY) || error->value == EADDRINUSE || error->value == EACCES) {
        return listener;
    }
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_ANY);
    v4.sin_port = htons((uint16_t) port);
    return listen_at(context, (sockaddr *) &v4, sizeof(v4), options, ext, error);
}

static us_listen_socket_t *listen_at_host(us_socket_context_t *context, const char *host, int port, int options,
                                          int ext, first_error_t *error) {
    addrinfo hints{};
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    hints.ai_family = options & LIBUS_LISTEN_IPV6_ONLY ? AF_INET6 : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    char service[12];
    snprintf(service, sizeof(service), "%d", port);
    addrinfo *results = nullptr;
    resolver_error = getaddrinfo(host, service, &hints, &results);
    if (resolver_error) {
        error->value = resolver_error == EAI_SYSTEM ? errno : 0;
        return nullptr;
    }
    us_listen_socket_t *listener = nullptr;
    for (addrinfo *r = results; r && !listener; r = r->ai_next) {
        listener = listen_at(context, r->ai_addr, r->ai_addrlen, options, ext, error);
    }
    freeaddrinfo(results);
    return listener;
}

us_listen_socket_t *us_socket_context_listen(int, us_socket_context_t *context, const char *host, int port, int options,
                                             int socket_ext_size) {
    resolver_error = 0;
    if (context->loop->error || port < 0 || port > 65535) {
        errno = context->loop->error ? context->loop->error : EINVAL;
        return nullptr;
    }
    first_error_t error;
    us_listen_socket_t *listener = host && *host ? listen_at_host(context, host, port, options, socket_ext_size, &error)
                                                 : listen_everywhere(context, port, options, socket_ext_size, &error);
    if (!listener) {
        errno = error.value;
    }
    return listener;
}
