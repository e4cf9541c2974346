// tcp/socket.h - the life of a socket: its flags, and its creation, moves, failure and closing. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// us_socket_close() with (0, NULL) that still delivers what the kernel has accepted: while bytes are not acknowledged,
// a FIN follows them and the descriptor drains (tcp/draining_close.cpp), as close() with unread input would send a
// reset, which ends the delivery.
void us_socket_close_delivering(us_socket_t *s);
// us_socket_close() with (0, NULL) and a reset: the kernel drops unsent bytes.
void us_socket_reset(us_socket_t *s);

// The block that an adopted socket lives in now, or s itself.
static inline us_socket_t *us_socket_newest(us_socket_t *s) {
    while (s->moved_to) {
        s = s->moved_to;
    }
    return s;
}

// ---- for the socket layer ----

struct sockaddr_storage;

enum us_flag_t : uint32_t {
    US_FLAG_PENDING = 1,  // linked into the loop's pending list
    US_FLAG_FAILED = 2,  // a fatal error: no more writes; the socket is closed at the end of the iteration
    US_FLAG_FIN_SENT = 4,  // SHUT_WR was done
    US_FLAG_END_CALLED = 16,  // on_end was called
    US_FLAG_UNREGISTERED = 32,  // not in epoll: the peer hung up, unread bytes remain, and reading is paused
    US_FLAG_RESET = 64,  // close with a reset
    US_FLAG_READY = 128,  // linked into the loop's ready list
    US_FLAG_EARLY_WRITE = 256,  // blocked until the handshake is done: polling for writing would be useless
    US_FLAG_UNREAD = 512,  // pending_close_reason_ has bytes that the layer above gave back; they are read first
};

// NULL with errno; fd then still belongs to the caller.
us_socket_t *us_socket_new(us_socket_context_t *context, int fd, unsigned int ext_size);
void us_socket_set_address(us_socket_t *s, const sockaddr_storage *address);
void us_socket_open(us_socket_t *s);  // on_open
void us_socket_discard(us_socket_t *s);  // closes without any callback
void us_socket_fail(us_socket_t *s);  // closes at the end of the iteration
void us_socket_close_broken(us_socket_t *s);  // the connection broke: closes with (0, NULL), does not drain
void us_socket_close_refused(us_socket_t *s);  // its transport has sent an alert: closes with (0, NULL), drains
void us_socket_free_later(us_socket_t *s);  // at the end of the iteration, also a listen socket
void us_socket_free_block(us_socket_t *s);
