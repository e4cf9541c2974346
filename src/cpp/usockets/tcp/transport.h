// tcp/transport.h - the seam where TLS goes in (tls/tls.cpp); plain TCP and unix sockets have none of it.
//
// A context whose `transport_` is not NULL sends and receives through this table instead of the kernel calls in tcp/read.cpp,
// tcp/write.cpp and tcp/socket.cpp. Those test the pointer once per operation and stay on the straight line when it is NULL.
// A transport keeps its per-socket state in `s->transport_state_` (adopt moves the pointer along) and its configuration
// in the context that owns the table (transport_config_); children share it through `parent_`, which lives as long as its
// last child.
//
// What a TLS layer must hold: no function may call a callback of the socket's context; send() may take bytes only into
// its own bounded output, and answers what it took; errors come as -1 with errno, EAGAIN meaning "nothing now".

#pragma once

#include "usockets/libusockets.h"
#include <sys/types.h>

struct us_transport_t {
    // Makes transport_state_ for a new socket (handshake not yet begun). 0, or -1 with errno: the socket is refused.
    int (*open)(struct us_socket_t *s);
    // The socket is in its context's list, and on_open comes next.
    void (*opened)(struct us_socket_t *s);
    // Decrypted bytes, 0 at close_notify or FIN, -1 with errno: EAGAIN, EPROTO after a violation of the protocol (whose
    // explanation was written: the connection is to linger), or what the kernel said.
    ssize_t (*recv)(struct us_socket_t *s, void *data, size_t length);
    // recv() has something to say without the descriptor being readable: the loop must come back by itself.
    bool (*pending)(struct us_socket_t *s);
    // Bytes taken, or -1 with errno. After a short answer, and while unsent() is not 0, the loop polls for writing and then
    // calls flush(). EAGAIN with US_FLAG_EARLY_WRITE: not before the handshake is done, however writable the descriptor.
    ssize_t (*send)(struct us_socket_t *s, const void *data, size_t length);
    // Bytes that send() took and the kernel did not; encrypted, so a little more than the plain ones.
    size_t (*unsent)(struct us_socket_t *s);
    // Writes out what send() has taken. 0 when nothing is left, -1 with EAGAIN while something is, -1 when fatal.
    int (*flush)(struct us_socket_t *s);
    // Says close_notify and then SHUT_WR. Same answers as flush(); called again when writable until it answers 0.
    int (*shutdown)(struct us_socket_t *s);
    // The descriptor is about to be closed: a last attempt at close_notify, no waiting.
    void (*close)(struct us_socket_t *s);
    // Frees transport_state_; runs when the block is freed, so the native handle stays valid after on_close.
    void (*free_state)(struct us_socket_t *s);
    // The last context of the family is gone: free the configuration.
    void (*free_config)(struct us_socket_context_t *root);
    void *(*native_handle)(struct us_socket_t *s);
};
