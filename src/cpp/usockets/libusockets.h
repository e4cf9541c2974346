// libusockets.h - the interface that uWebSockets is written against, implemented from scratch in this folder.
//
// Ownership: a loop owns its contexts' callbacks, its wheel of timeouts and every block that is closed but not freed; a
// context owns its sockets; a socket owns its descriptor and its unsent tail. Everything here is loop-thread only,
// except us_wakeup_loop(), which any thread may call. Functions that act (write, shutdown, timeout, adopt, listen)
// never call a callback; us_socket_close() calls on_close at once outside a dispatch and after the outermost dispatch
// inside one.
//
// The structs are complete here, not opaque, because uWebSockets makes some forty accessor calls for one echoed
// message: they are inline below and cost a load each. Only this folder may touch members whose name ends in an
// underscore.
//
// `ssl` is accepted everywhere, as uWebSockets passes it; the transport of a socket is decided by its context
// (`transport_`: NULL is plain TCP or unix, else the table of tcp/transport.h that the TLS layer fills in).
//
// Extensions of the interface are declared in the header of the file that defines them.

#pragma once

#include <stddef.h>
#include <stdint.h>

// The size of the receive buffer, one for each loop. A multiple of 16, as uWebSockets unmasks a full buffer whole.
#define LIBUS_RECV_BUFFER_LENGTH (128 * 1024)
// Room before and after the received bytes that parsers may overwrite.
#define LIBUS_RECV_BUFFER_PADDING 64
#define LIBUS_EXT_ALIGNMENT 16
#define LIBUS_SOCKET_DESCRIPTOR int

enum {
    LIBUS_LISTEN_DEFAULT = 0,  // SO_REUSEPORT: several processes may share the port
    LIBUS_LISTEN_EXCLUSIVE_PORT = 1,  // no SO_REUSEPORT: the default of the binding
    LIBUS_LISTEN_IPV6_ONLY = 2,  // IPV6_V6ONLY on
};

enum us_phase_t { US_PHASE_NONE, US_PHASE_OPEN, US_PHASE_DATA, US_PHASE_WRITABLE, US_PHASE_END, US_PHASE_TIMEOUT };

struct us_loop_t;
struct us_loop_internal_t;
struct us_socket_t;
struct us_socket_context_t;
struct us_listen_socket_t;
struct us_timer_t;
struct us_poll_t;
struct us_stored_bytes_t;
struct us_transport_t;
struct us_networks_t;

// Order and size are uWebSockets' (it copies its own struct over this one): no further members.
struct us_socket_context_options_t {
    const char *key_file_name;
    const char *cert_file_name;
    const char *passphrase;
    const char *dh_params_file_name;
    const char *ca_file_name;
    const char *ssl_ciphers;
    int ssl_prefer_low_memory_usage;
};

extern "C" {

typedef us_socket_t *(*us_on_open_t)(us_socket_t *, int is_client, char *ip, int ip_length);
typedef us_socket_t *(*us_on_close_t)(us_socket_t *, int code, void *reason);
typedef us_socket_t *(*us_on_data_t)(us_socket_t *, char *data, int length);
typedef us_socket_t *(*us_on_event_t)(us_socket_t *);

struct us_callbacks_t {
    us_on_open_t on_open;
    us_on_close_t on_close;
    us_on_data_t on_data;
    us_on_event_t on_writable, on_end, on_timeout, on_long_timeout;
    // Ours. Called for each accepted descriptor before a socket is made of it: 0 refuses it, with a reset. It may
    // replace the descriptor by another (us_draining_make_room).
    int (*on_accept)(us_socket_context_t *, int *fd);
    // Ours. Accepting failed with this errno, for lack of descriptors or memory, and pauses.
    void (*on_accept_error)(us_socket_context_t *, int error);
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_loop_t {
    uint32_t tick;  // seconds of the monotonic clock as of this callback, rounded up; starts at 1
    int phase;  // us_phase_t of the innermost callback
    int depth;  // > 0 while a callback of a socket, timer or wake-up runs
    int num_polls;  // sockets and listen sockets: us_loop_run() runs until there are none
    int num_blocked;  // sockets that wait until the kernel accepts bytes again
    int error;  // errno of a failed creation, else 0
    uint64_t bytes_read_;  // of connections, without the overhead of TLS
    uint64_t bytes_written_;
    us_loop_internal_t *internal_;
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_socket_context_t {
    us_loop_t *loop;
    void *user;  // for the layer above, starts NULL
    us_callbacks_t cb;
    uint32_t num_sockets;
    uint32_t num_proxied;  // accepted connections that are no sockets yet: their PROXY header has not arrived
    // us_socket_timeout() is ignored while on_writable runs: for WebSockets only inbound bytes are a sign of life, and
    // HTTP manages its own timeouts.
    bool inbound_liveness;
    bool is_child_;
    const us_transport_t *transport_;
    us_socket_t *head_;  // open sockets
    us_listen_socket_t *listen_head_;
    us_socket_context_t *prev_, *next_, *parent_;
    uint32_t transport_refs_;
    const us_networks_t *proxy_trusted_;  // proxy/proxy.h; NULL: no connection begins with a PROXY header
    uint64_t proxy_ns_;  // the timeout of that header
    uint32_t tls_seconds_;  // tls/tls.h, the timeout of a handshake; 0: none
    void *transport_config_;  // of the root of a family
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_socket_t {
    us_socket_context_t *context;
    int fd;  // -1 once closed
    bool closed, shut_down;  // shut_down: our FIN is sent, or will be after the unsent tail
    bool blocked;  // a write was short: no write syscall until the socket is writable again
    bool read_shutdown;  // us_socket_shutdown_read() was called: on_end at the end of the iteration
    bool peer_ended;  // the peer has sent FIN
    uint8_t pause_reasons;  // bits of us_pause_reason_t
    uint8_t user_bits;  // for the layer above, starts at 0, kept by adopt
    bool proxied_unknown;  // the PROXY header named no client: the address is the proxy's
    uint16_t interest_;  // the EPOLL bits that are registered
    uint32_t deadline_;  // in ticks, 0 = off: on_timeout
    uint32_t long_deadline_;  // on_long_timeout
    uint32_t hard_deadline_;  // closes the socket; traffic does not extend it
    uint32_t check_at_;  // the tick of the wheel slot that this socket is linked into, 0 = none
    int pending_close_code_;
    us_socket_t *prev_, *next_;  // the context's list; next_ also links the closed list, prev_ the on_close queue
    us_socket_t *wheel_prev_, *wheel_next_;
    us_socket_t *moved_to;  // set by adopt on the old block
    us_stored_bytes_t *unsent_tail_;  // bytes that write() has accepted and the kernel has not
    void *user;  // for the layer above, starts NULL, kept by adopt
    void *transport_state_;  // TLS state; NULL when plain
    uint64_t written_;  // bytes that the kernel, or the transport, has accepted; kept by adopt
    void *pending_close_reason_;  // of an open socket with US_FLAG_UNREAD: the bytes given back (us_stored_bytes_t)
    uint8_t ip[16];
    uint8_t ip_length;  // 4, 16, or 0 (unix)
    uint8_t on_close_due_;
    uint16_t remote_port;
    uint32_t flags_;  // US_FLAG_*, tcp/socket.h
    uint32_t charged;  // for the layer above, starts at 0, kept by adopt: see us_loop_on_change()
    us_socket_t *pending_next_;  // the loop's queue of sockets that need a visit after post_cb
    us_socket_t *ready_next_;  // the loop's queue of sockets with received bytes in user space
};

// ---- loop ----

// Never NULL: a loop whose descriptors could not be made has `error` set and can only be freed.
us_loop_t *us_create_loop(void *hint, void (*wakeup_cb)(us_loop_t *), void (*pre_cb)(us_loop_t *),
                          void (*post_cb)(us_loop_t *), unsigned int ext_size);
void us_loop_free(us_loop_t *loop);
static inline void *us_loop_ext(us_loop_t *loop) { return loop + 1; }
void us_loop_run(us_loop_t *loop);
void us_loop_integrate(us_loop_t *loop);
void us_wakeup_loop(us_loop_t *loop);  // any thread

// ---- timers ----

us_timer_t *us_create_timer(us_loop_t *loop, int fallthrough, unsigned int ext_size);
void *us_timer_ext(us_timer_t *timer);
// A fallthrough timer never wakes the loop: when due, it runs at the start of the next iteration that starts anyway (so
// the Date header is fresh whenever a request is read, and an idle process sleeps). ms 0 disarms.
void us_timer_set(us_timer_t *timer, void (*cb)(us_timer_t *), int ms, int repeat_ms);
void us_timer_close(us_timer_t *timer);  // also from its own callback

// ---- contexts ----

us_socket_context_t *us_create_socket_context(int ssl, us_loop_t *loop, int ext_size, us_socket_context_options_t);
us_socket_context_t *us_create_child_socket_context(int ssl, us_socket_context_t *parent, int ext_size);
void us_socket_context_free(int ssl, us_socket_context_t *context);
void us_socket_context_close(int ssl, us_socket_context_t *context);

static inline void *us_socket_context_ext(int, us_socket_context_t *context) { return context + 1; }
static inline us_loop_t *us_socket_context_loop(int, us_socket_context_t *context) { return context->loop; }
static inline void us_socket_context_on_open(int, us_socket_context_t *c, us_on_open_t f) { c->cb.on_open = f; }
static inline void us_socket_context_on_close(int, us_socket_context_t *c, us_on_close_t f) { c->cb.on_close = f; }
static inline void us_socket_context_on_data(int, us_socket_context_t *c, us_on_data_t f) { c->cb.on_data = f; }
static inline void us_socket_context_on_writable(int, us_socket_context_t *c, us_on_event_t f) {
    c->cb.on_writable = f;
}
static inline void us_socket_context_on_end(int, us_socket_context_t *c, us_on_event_t f) { c->cb.on_end = f; }
static inline void us_socket_context_on_timeout(int, us_socket_context_t *c, us_on_event_t f) { c->cb.on_timeout = f; }
static inline void us_socket_context_on_long_timeout(int, us_socket_context_t *c, us_on_event_t f) {
    c->cb.on_long_timeout = f;
}

// Listen functions: NULL on failure with errno set; name resolution failures set errno 0 and us_gai_error().
us_listen_socket_t *us_socket_context_listen(int ssl, us_socket_context_t *context, const char *host, int port,
                                             int options, int socket_ext_size);
void us_listen_socket_close(int ssl, us_listen_socket_t *listener);
int us_socket_local_port(int ssl, us_socket_t *s);  // a listen socket cast, or a connection; -1 on failure

// Declared for templates of uWebSockets that nothing instantiates (SSLApp among them, as a context decides on TLS), and
// not defined. For server names see tls/tls.h, for unix listeners tcp/listen_unix.h, for pauses tcp/read.h.
us_listen_socket_t *us_socket_context_listen_unix(int ssl, us_socket_context_t *context, const char *path, int options,
                                                  int socket_ext_size);
int us_poll_events(us_poll_t *p);
void us_poll_change(us_poll_t *p, us_loop_t *loop, int events);
void us_socket_context_add_server_name(int ssl, us_socket_context_t *context, const char *pattern,
                                       us_socket_context_options_t options, void *user);
void us_socket_context_remove_server_name(int ssl, us_socket_context_t *context, const char *pattern);
void us_socket_context_on_server_name(int ssl, us_socket_context_t *context,
                                      void (*cb)(us_socket_context_t *, const char *hostname));
void *us_socket_context_find_server_name_userdata(int ssl, us_socket_context_t *context, const char *pattern);
void *us_socket_server_name_userdata(int ssl, us_socket_t *s);
void *us_socket_context_get_native_handle(int ssl, us_socket_context_t *context);
void us_socket_context_on_pre_open(int ssl, us_socket_context_t *context,
                                   LIBUS_SOCKET_DESCRIPTOR (*cb)(us_socket_context_t *, LIBUS_SOCKET_DESCRIPTOR fd,
                                                                 char *ip, int ip_length));

// ---- sockets ----

static inline void *us_socket_ext(int, us_socket_t *s) { return s + 1; }
static inline us_socket_context_t *us_socket_context(int, us_socket_t *s) { return s->context; }
static inline int us_socket_is_closed(int, us_socket_t *s) { return s->closed; }
static inline int us_socket_is_shut_down(int, us_socket_t *s) { return s->shut_down; }

void us_loop_refresh(us_loop_t *loop);  // reads the clock into `tick`
void us_wheel_relink(us_socket_t *s);  // moves s to the slot of its earliest deadline

// Arms (or with 0 disarms) on_timeout, never early and at most a second and US_COARSE_LAG_NS late. A store and a
// compare.
static inline void us_socket_timeout(int, us_socket_t *s, unsigned int seconds) {
    us_loop_t *loop = s->context->loop;
    if (s->closed || (loop->phase == US_PHASE_WRITABLE && s->context->inbound_liveness)) {
        return;
    }
    if (loop->depth == 0) {
        us_loop_refresh(loop);  // from outside an iteration `tick` may be hours old
    }
    s->deadline_ = seconds ? loop->tick + seconds + 1 : 0;
    if (seconds && (s->check_at_ == 0 || s->deadline_ < s->check_at_)) {
        us_wheel_relink(s);
    }
}
void us_socket_long_timeout(int ssl, us_socket_t *s, unsigned int minutes);

// Returns the bytes accepted, 0..length, never negative; never keeps `data`; no syscall while blocked. `length` is read
// as unsigned. With msg_more and at most 16 KiB, the bytes that the kernel does not accept become the unsent tail (also
// while blocked, up to 32 KiB in all) and `length` is returned.
int us_socket_write(int ssl, us_socket_t *s, const char *data, int length, int msg_more);
// Header and payload in one sendmsg; never returns 1..header_length on a live socket, as the rest of the header and one
// byte of the payload then become the unsent tail.
int us_socket_write2(int ssl, us_socket_t *s, const char *header, int header_length, const char *payload,
                     int payload_length);
void us_socket_shutdown(int ssl, us_socket_t *s);
void us_socket_shutdown_read(int ssl, us_socket_t *s);
us_socket_t *us_socket_close(int ssl, us_socket_t *s, int code, void *reason);
us_socket_t *us_socket_context_adopt_socket(int ssl, us_socket_context_t *context, us_socket_t *s, int ext_size);
// A socket of a descriptor that was accepted elsewhere; NULL with errno, and the descriptor still belongs to the
// caller.
us_socket_t *us_adopt_accepted_socket(int ssl, us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd,
                                      unsigned int socket_ext_size, char *ip, int ip_length);
void *us_socket_get_native_handle(int ssl, us_socket_t *s);
void us_socket_remote_address(int ssl, us_socket_t *s, char *buf, int *length);
int us_socket_remote_port(int ssl, us_socket_t *s);
}
