// tcp/write.h - writing in parts and in segments, and how far the bytes have come. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

#include <errno.h>

struct iovec;

// Several parts, at most 1 GiB in all, in one sendmsg. Returns the bytes accepted; the caller keeps the rest. Only if
// us_socket_can_write_parts(): not for TLS, nor while the socket is blocked or closing. Changes the parts.
bool us_socket_can_write_parts(const us_socket_t *s);
size_t us_socket_write_parts(us_socket_t *s, iovec *parts, size_t count);
// For a socket that is about to be closed: flushes once more, even if the socket is blocked. True: everything was sent,
// and writes go to the kernel again. No on_writable follows.
bool us_socket_retry(us_socket_t *s);

// For several writes in a row, inside one callback: until us_socket_push() the kernel may delay the end of each write,
// so that it makes fewer and fuller segments. One socket at a time. us_socket_release(): the next write is the last.
void us_socket_hold(us_socket_t *s);
void us_socket_release(us_socket_t *s);
void us_socket_push(us_socket_t *s);

// Bytes that were accepted here and not yet by the kernel: unsent tail and TLS output.
size_t us_socket_unsent_bytes(us_socket_t *s);
// Bytes that the kernel has accepted and the peer has not acknowledged (on unix sockets: read); 0 when unknown.
size_t us_socket_unacknowledged(us_socket_t *s);
// Bytes that the peer has acknowledged (on unix sockets: read) of all that was written. Grows while the peer receives,
// however much is written meanwhile; otherwise it stays equal, or falls by some overhead of TLS. Costs a system call.
uint64_t us_socket_acknowledged_bytes(us_socket_t *s);
// Seconds since the last acknowledgement of the peer, of a probe included; 0 where it is unknown (unix sockets).
unsigned int us_socket_seconds_since_ack(us_socket_t *s);

// ---- for the socket layer ----

void us_socket_writable(us_socket_t *s);
void us_socket_finish_writing(us_socket_t *s);  // FIN
void us_socket_block(us_socket_t *s);  // must not be blocked
void us_socket_unblock(us_socket_t *s);
static inline bool us_is_temporary(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }
