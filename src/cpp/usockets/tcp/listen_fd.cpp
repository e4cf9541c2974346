// tcp/listen_fd.cpp - listening on a descriptor that another process has bound: a parent process, or systemd.
//
// All checks come first and change nothing, so that on failure the caller has its descriptor as before. On success the
// listener owns and closes it. Other processes may share the socket, with two consequences: O_NONBLOCK belongs to the
// socket and not to the descriptor, and of several processes that wake up for one connection, all but one get EAGAIN
// from accept(). Closing this descriptor neither ends their listening nor resets connections that wait to be accepted,
// so a server can be restarted without a gap.

#include "usockets/tcp/listen_fd.h"

#include "usockets/loop/state.h"
#include "usockets/tcp/listen.h"

#include <netdb.h>

static int fail(int error) {
    errno = error;
    return -1;
}

// The socket's family, or -1 with errno.
static int family_of(int fd) {
    int type = 0, is_listening = 0, family = 0;
    if (us_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type) != 0 ||
        us_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family) != 0 ||
        us_sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening) != 0) {
        return -1;
    }
    if (type != SOCK_STREAM) {
        return fail(ESOCKTNOSUPPORT);
    }
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) {
        return fail(EAFNOSUPPORT);
    }
    return is_listening ? family : fail(EINVAL);
}

// The address of a listening socket; -1 with errno.
static int address_of(int fd, us_listen_address_t *where) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    if (us_sys_getsockname(fd, (sockaddr *) &address, &length) != 0) {
        return -1;
    }
    if (address.ss_family == AF_UNIX) {
        const sockaddr_un *local = (const sockaddr_un *) &address;
        static_assert(sizeof(local->sun_path) <= sizeof(where->text));
        const size_t all = length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
        // The length of a path includes its NUL; in an abstract name every byte counts.
        const size_t used = all && local->sun_path[0] ? strnlen(local->sun_path, all) : all;
        memcpy(where->text, local->sun_path, used);
        where->length = (int) used;
        where->port = -1;
        return 0;
    }
    char service[8];
    if (getnameinfo((const sockaddr *) &address, length, where->text, sizeof(where->text), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return fail(EAFNOSUPPORT);
    }
    where->length = (int) strlen(where->text);
    where->port = atoi(service);
    return 0;
}

int us_listen_socket_fd(us_listen_socket_t *listener) { return listener->s.fd; }

bool us_listen_socket_address(us_listen_socket_t *listener, us_listen_address_t *where) {
    return address_of(listener->s.fd, where) == 0;
}

us_listen_socket_t *us_listen_fd(us_socket_context_t *context, int fd, int socket_ext_size,
                                 us_listen_address_t *where) {
    if (context->loop->error) {
        errno = context->loop->error;
        return nullptr;
    }
    const int family = family_of(fd);
    if (family < 0 || address_of(fd, where) != 0 || us_sys_make_nonblocking(fd) != 0) {
        return nullptr;
    }
    if (family != AF_UNIX && us_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0) {  // accepted sockets inherit it
        return nullptr;
    }
    return us_listener_new(context, fd, socket_ext_size);
}
