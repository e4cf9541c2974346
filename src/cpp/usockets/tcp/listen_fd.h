// tcp/listen_fd.h - listening on a descriptor that another process has bound, and what a listener is bound to.
// Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// A numeric address and its port, or with port -1 a unix path or abstract name (which starts with NUL).
struct us_listen_address_t {
    char text[128];
    int length;
    int port;
};

// Takes over a listening socket that another process (a parent, systemd) has bound: TCP or unix, SOCK_STREAM. On
// success, fd becomes non-blocking (for all processes that share it) and close-on-exec, and *where is filled in. On
// failure, NULL with errno, and fd still belongs to the caller: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (no stream),
// EAFNOSUPPORT (neither TCP nor unix), EINVAL (not listening), or an error of the system. Closing the listener removes
// no path.
us_listen_socket_t *us_listen_fd(us_socket_context_t *context, int fd, int socket_ext_size, us_listen_address_t *where);
int us_listen_socket_fd(us_listen_socket_t *listener);
bool us_listen_socket_address(us_listen_socket_t *listener, us_listen_address_t *where);
