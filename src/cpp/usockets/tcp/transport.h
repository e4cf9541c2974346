// tcp/transport.h - the interface of a transport, that is of TLS (tls/tls.cpp); plain TCP and unix sockets have none.
//
// A context whose `transport_` is not NULL sends and receives through this table instead of the kernel calls in
// tcp/read.cpp, tcp/write.cpp and tcp/socket.cpp, which test the pointer once per operation. A transport keeps its
// per-socket state in `s->transport_state_` (adopt moves the pointer) and its configuration in the context that owns
// the table (transport_config_); children share it through `parent_`, which lives as long as its last child.
//
// A transport must not call a callback of the socket's context. send() returns the number of bytes that it has
// accepted, and what it keeps of them is bounded. Errors are -1 with errno; EAGAIN means "nothing now".

#pragma once

#include "usockets/libusockets.h"

#include <sys/types.h>

struct us_transport_t {
    // Makes transport_state_ for a new socket (handshake not yet begun). 0, or -1 with errno: the socket is refused.
    int (*open)(us_socket_t *s);
    // The socket is in its context's list, and on_open comes next.
    void (*opened)(us_socket_t *s);
    // Decrypted bytes, 0 at close_notify or FIN, -1 with errno: EAGAIN, EPROTO after a violation of the protocol (the
    // alert is written, so the connection should drain), or the kernel's error.
    ssize_t (*recv)(us_socket_t *s, void *data, size_t length);
    // recv() would return bytes or an end although the descriptor is not readable: the loop must call it without an
    // event.
    bool (*pending)(us_socket_t *s);
    // Bytes accepted, or -1 with errno. After a short write, and while unsent() is not 0, the loop polls for writing
    // and then calls flush(). EAGAIN with US_FLAG_EARLY_WRITE: not before the handshake is done, even if the descriptor
    // is writable.
    ssize_t (*send)(us_socket_t *s, const void *data, size_t length);
    // Encrypted bytes that the kernel has not accepted yet.
    size_t (*unsent)(us_socket_t *s);
    // Sends the unsent bytes. 0 when none are left, -1 with EAGAIN while some are, -1 with another errno when fatal.
    int (*flush)(us_socket_t *s);
    // Sends close_notify and then SHUT_WR. Returns as flush() does; called again when writable until it returns 0.
    int (*shutdown)(us_socket_t *s);
    // The descriptor is about to be closed: a last attempt at close_notify, no waiting.
    void (*close)(us_socket_t *s);
    // Frees transport_state_; runs when the block is freed, so the native handle stays valid after on_close.
    void (*free_state)(us_socket_t *s);
    // The last context of the family is gone: free the configuration.
    void (*free_config)(us_socket_context_t *root);
    void *(*native_handle)(us_socket_t *s);
};
