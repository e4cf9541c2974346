// tcp/listen.h - listen sockets, whichever way they were bound. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

#include <sys/types.h>
#include <sys/un.h>

int us_gai_error();  // of this thread's last us_socket_context_listen(), EAI_* or 0

// ---- for the socket layer ----

constexpr int US_BACKLOG = 4096;

// `s` comes first: us_socket_local_port() takes a listen socket cast to a socket, and both are freed alike.
struct us_listen_socket_t {
    us_socket_t s;
    us_listen_socket_t *prev, *next;
    us_timer_t *retry;  // runs while accepting is paused for lack of descriptors
    int socket_ext_size;
    dev_t device;  // of the published unix path
    ino_t inode;
    char path[sizeof(sockaddr_un::sun_path) + 1];  // empty: nothing to unlink
};

us_listen_socket_t *us_listener_new(us_socket_context_t *context, int fd, int socket_ext_size);
void us_listener_event(us_listen_socket_t *listener);
