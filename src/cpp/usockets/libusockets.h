/* libusockets.h - the interface that uWebSockets is written against, implemented from scratch in this folder.
 *
 * Ownership: a loop owns its contexts' callbacks, its wheel of timeouts and every block that is closed but not freed; a
 * context owns its sockets; a socket owns its descriptor and its unsent tail. Everything here is loop-thread only, except
 * us_wakeup_loop(), which any thread may call. Functions that act (write, shutdown, timeout, adopt, listen) never call a
 * callback; us_socket_close() calls on_close at once outside a dispatch and after the outermost dispatch inside one.
 *
 * The structs are complete here, not opaque, because uWebSockets makes some forty accessor calls for one echoed message:
 * they are inline below and cost a load each. Only this folder may touch members whose name ends in an underscore.
 *
 * `ssl` is accepted everywhere, as uWebSockets passes it; the transport of a socket is decided by its context
 * (`transport_`: NULL is plain TCP or unix, else the table that a TLS layer fills in). */

#ifndef LIBUSOCKETS_H
#define LIBUSOCKETS_H

#include <stddef.h>
#include <stdint.h>

/* The size of the receive buffer, one for each loop. A multiple of 16, as uWebSockets unmasks a full buffer whole. */
#define LIBUS_RECV_BUFFER_LENGTH (128 * 1024)
/* Room before and after the received bytes that parsers may overwrite. */
#define LIBUS_RECV_BUFFER_PADDING 64
#define LIBUS_EXT_ALIGNMENT 16
#define LIBUS_SOCKET_DESCRIPTOR int

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LIBUS_LISTEN_DEFAULT = 0,          /* SO_REUSEPORT: several processes may share the port */
    LIBUS_LISTEN_EXCLUSIVE_PORT = 1,   /* no SO_REUSEPORT: the default of the binding */
    LIBUS_LISTEN_IPV6_ONLY = 2,        /* IPV6_V6ONLY on */
};

enum us_phase_t { US_PHASE_NONE, US_PHASE_OPEN, US_PHASE_DATA, US_PHASE_WRITABLE, US_PHASE_END, US_PHASE_TIMEOUT };

/* Why a socket is not being read; reading resumes when the last reason is taken back. QUEUE: received bytes wait for the
 * layer above, so the peer's silence is no sign of death. */
enum us_pause_reason_t { US_PAUSE_USER = 1, US_PAUSE_HELD = 2, US_PAUSE_BACKLOG = 4, US_PAUSE_QUEUE = 8 };

struct us_loop_t;
struct us_socket_t;
struct us_socket_context_t;
struct us_listen_socket_t;
struct us_timer_t;
struct us_poll_t;
struct us_watch_t;
struct us_stored_bytes_t;
struct us_draining_t;
struct us_transport_t;
struct iovec;
struct us_networks_t;

/* Order and size are uWebSockets' (it copies its own struct over this one): no further members. */
struct us_socket_context_options_t {
    const char *key_file_name;
    const char *cert_file_name;
    const char *passphrase;
    const char *dh_params_file_name;
    const char *ca_file_name;
    const char *ssl_ciphers;
    int ssl_prefer_low_memory_usage;
};

typedef struct us_socket_t *(*us_on_open_t)(struct us_socket_t *, int is_client, char *ip, int ip_length);
typedef struct us_socket_t *(*us_on_close_t)(struct us_socket_t *, int code, void *reason);
typedef struct us_socket_t *(*us_on_data_t)(struct us_socket_t *, char *data, int length);
typedef struct us_socket_t *(*us_on_event_t)(struct us_socket_t *);

struct us_callbacks_t {
    us_on_open_t on_open;
    us_on_close_t on_close;
    us_on_data_t on_data;
    us_on_event_t on_writable, on_end, on_timeout, on_long_timeout;
    /* Ours. Called for each accepted descriptor before a socket is made of it: 0 refuses it, with a reset. It may replace
     * the descriptor by another (us_draining_make_room). */
    int (*on_accept)(struct us_socket_context_t *, int *fd);
    /* Ours. Accepting failed with this errno, for lack of descriptors or memory, and pauses. */
    void (*on_accept_error)(struct us_socket_context_t *, int error);
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_loop_t {
    uint32_t tick; /* seconds of the monotonic clock as of this callback, rounded up; starts at 1 */
    int phase; /* us_phase_t of the innermost callback */
    int depth; /* > 0 while a callback of a socket, timer or wake-up runs */
    int num_polls; /* sockets and listen sockets: us_loop_run() runs until there are none */
    int num_blocked; /* sockets that wait until the kernel accepts bytes again */
    int error; /* errno of a failed creation, else 0 */
    uint64_t bytes_read_; /* of connections, without the overhead of TLS */
    uint64_t bytes_written_;
    struct us_loop_internal_t *internal_;
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_socket_context_t {
    struct us_loop_t *loop;
    void *user; /* for the layer above, starts NULL */
    struct us_callbacks_t cb;
    uint32_t num_sockets;
    uint32_t num_proxied; /* accepted connections that are no sockets yet: their PROXY header has not arrived */
    /* us_socket_timeout() is ignored while on_writable runs: for WebSockets only inbound bytes are a sign of life, and HTTP
     * manages its own timeouts. */
    bool inbound_liveness;
    bool is_child_;
    const struct us_transport_t *transport_;
    struct us_socket_t *head_; /* open sockets */
    struct us_listen_socket_t *listen_head_;
    struct us_socket_context_t *prev_, *next_, *parent_;
    uint32_t transport_refs_;
    const struct us_networks_t *proxy_trusted_; /* proxy.h; NULL: no connection begins with a PROXY header */
    uint64_t proxy_ns_; /* the timeout of that header */
    uint32_t tls_seconds_; /* tls.h, the timeout of a handshake; 0: none */
    void *transport_config_; /* of the root of a family */
};

struct alignas(LIBUS_EXT_ALIGNMENT) us_socket_t {
    struct us_socket_context_t *context;
    int fd; /* -1 once closed */
    uint32_t ext_size_;
    bool closed, shut_down; /* shut_down: our FIN is sent, or will be after the unsent tail */
    bool blocked; /* a write was short: no write syscall until the socket is writable again */
    bool read_shutdown; /* us_socket_shutdown_read() was called: on_end at the end of the iteration */
    bool peer_ended; /* the peer has sent FIN */
    uint8_t pause_reasons; /* bits of us_pause_reason_t */
    uint8_t user_bits; /* for the layer above, starts at 0, kept by adopt */
    bool proxied_unknown; /* the PROXY header named no client: the address is the proxy's */
    uint16_t interest_; /* the EPOLL bits that are registered */
    uint32_t deadline_; /* in ticks, 0 = off: on_timeout */
    uint32_t long_deadline_; /* on_long_timeout */
    uint32_t hard_deadline_; /* closes the socket; traffic does not extend it */
    uint32_t check_at_; /* the tick of the wheel slot that this socket is linked into, 0 = none */
    int pending_close_code_;
    struct us_socket_t *prev_, *next_; /* the context's list; next_ also links the closed list */
    struct us_socket_t *wheel_prev_, *wheel_next_;
    struct us_socket_t *moved_to; /* set by adopt on the old block */
    struct us_stored_bytes_t *unsent_tail_; /* bytes that write() has accepted and the kernel has not */
    void *user; /* for the layer above, starts NULL, kept by adopt */
    void *transport_state_; /* TLS state; NULL when plain */
    uint64_t written_; /* bytes that the kernel, or the transport, has accepted; kept by adopt */
    void *pending_close_reason_; /* of an open socket with US_FLAG_UNREAD: the bytes given back (us_stored_bytes_t) */
    uint8_t ip[16];
    uint8_t ip_length; /* 4, 16, or 0 (unix) */
    uint8_t on_close_due_;
    uint16_t remote_port;
    uint32_t flags_; /* US_FLAG_*, tcp/socket.h */
    uint32_t charged; /* for the layer above, starts at 0, kept by adopt: see us_loop_on_change() */
    struct us_socket_t *pending_next_; /* the loop's list of sockets that need a visit after post_cb */
    struct us_socket_t *ready_next_; /* the loop's list of sockets with received bytes in user space */
};

/* ---- loop ---- */

/* Never NULL: a loop whose descriptors could not be made has `error` set and can only be freed. */
struct us_loop_t *us_create_loop(void *hint, void (*wakeup_cb)(struct us_loop_t *), void (*pre_cb)(struct us_loop_t *),
                                 void (*post_cb)(struct us_loop_t *), unsigned int ext_size);
void us_loop_free(struct us_loop_t *loop);
static inline void *us_loop_ext(struct us_loop_t *loop) { return loop + 1; }
void us_loop_run(struct us_loop_t *loop);
void us_loop_integrate(struct us_loop_t *loop);
void us_wakeup_loop(struct us_loop_t *loop); /* any thread */

/* Ours. One iteration; waits at most timeout_ms (-1: until something happens). Returns num_polls.
 * Order: pre_cb, release hook, wait, timers, wake-up and watches, sockets, ready sockets, timeouts (after the reads, as
 * bytes that arrived while the thread was busy are a sign of life), release hook, post_cb, on_end of sockets whose
 * reading was shut down, free of closed blocks. Deferred on_close run whenever the outermost callback has returned. */
int us_loop_iterate(struct us_loop_t *loop, int timeout_ms);
/* How many events the last iteration found. */
int us_loop_last_events(struct us_loop_t *loop);
/* Called where the loop thread no longer needs its caller's lock (Python's GIL): before the wait and before post_cb. */
void us_loop_on_release(struct us_loop_t *loop, void (*cb)(void *user), void *user);
/* The epoll descriptor, for a foreign loop: readable when an iteration has something to do (timers included). */
int us_loop_fd(struct us_loop_t *loop);
/* After fork() in the child: close the loop's descriptors without touching the kernel objects the parent shares. */
void us_loop_abandon(struct us_loop_t *loop);

uint64_t us_monotonic_ns(void); /* the clock of all timers and timeouts; any thread */

/* The loop's contexts, one after the other; NULL starts and ends the walk. */
struct us_socket_context_t *us_loop_next_context(struct us_loop_t *loop, struct us_socket_context_t *previous);
/* These two bracket work on the loop's thread outside the loop's callbacks: between them, closes are deferred as in any
 * dispatch; the outermost leave runs them. */
void us_loop_enter(struct us_loop_t *loop);
void us_loop_leave(struct us_loop_t *loop);
/* The same, but leaves the deferred closes to the next dispatch; the caller must make sure that there is one. */
void us_loop_leave_later(struct us_loop_t *loop);
/* Outside an iteration, after such calls: sets the kernel's timer for new timers and timeouts. Nonzero if an iteration must
 * run: to free closed blocks, or to end the loop. */
int us_loop_needs_turn(struct us_loop_t *loop);
int us_loop_is_iterating(struct us_loop_t *loop);

/* Ours. Accounts for the memory that sockets use. A socket has changed when a write to it was short or found it blocked,
 * when it became writable, and when the layer above calls us_socket_changed(). cb may only read and count. It is called
 * late, so that it sees the change complete: when another socket changes, in us_loop_settle(), in us_loop_leave(), or at
 * the end of the iteration, whichever is first. Not for closed sockets; adopt counts as a change of the new block. */
void us_loop_on_change(struct us_loop_t *loop, void (*cb)(void *user, struct us_socket_t *s), void *user);
void us_socket_changed(struct us_socket_t *s);
void us_loop_settle(struct us_loop_t *loop);

/* Ours. Bytes that connections have read and written since the loop was made, without the overhead of TLS. Any thread. */
static inline uint64_t us_loop_bytes_read(const struct us_loop_t *loop) {
    return __atomic_load_n(&loop->bytes_read_, __ATOMIC_RELAXED);
}
static inline uint64_t us_loop_bytes_written(const struct us_loop_t *loop) {
    return __atomic_load_n(&loop->bytes_written_, __ATOMIC_RELAXED);
}

/* The block that an adopted socket lives in now, or s itself. */
struct us_socket_t *us_socket_newest(struct us_socket_t *s);

/* cb is called when a callback has thrown, before its socket is closed, so that the layer above can repair its state. */
void us_loop_on_failure(struct us_loop_t *loop, void (*cb)(void *user), void *user);

/* Allocates in advance for the next call of us_loop_take_recv_buffer(), which then cannot fail; 0 when out of memory. */
int us_loop_prepare_recv_buffer(struct us_loop_t *loop);
/* Gives the loop a new receive buffer and returns the old one's memory, to be freed with free(): for a caller that must
 * keep received bytes in place after its callback. */
void *us_loop_take_recv_buffer(struct us_loop_t *loop);
/* Holds the received bytes while on_data runs, unless they came through us_socket_deliver(). */
const char *us_loop_recv_buffer(struct us_loop_t *loop);

/* The number of connections that are closed here and keep their descriptor until the peer has read the last bytes. */
unsigned int us_draining_count(const struct us_loop_t *loop);
/* Ends the oldest of them; 0 when there is none. If `fd` is given and the freed number is lower, *fd moves to that number,
 * so that the numbers in use do not grow; the caller then owns the new descriptor instead of the old. */
int us_draining_make_room(struct us_loop_t *loop, int *fd);

/* A descriptor watched for reading; does not keep the loop alive. NULL with errno on failure. The caller owns fd. */
struct us_watch_t *us_watch(struct us_loop_t *loop, int fd, void (*cb)(void *user), void *user);
void us_unwatch(struct us_watch_t *watch);

/* ---- timers ---- */

struct us_timer_t *us_create_timer(struct us_loop_t *loop, int fallthrough, unsigned int ext_size);
void *us_timer_ext(struct us_timer_t *timer);
/* A fallthrough timer never wakes the loop: when due, it runs at the start of the next iteration that starts anyway (so the
 * Date header is fresh whenever a request is read, and an idle process sleeps). ms 0 disarms. */
void us_timer_set(struct us_timer_t *timer, void (*cb)(struct us_timer_t *), int ms, int repeat_ms);
void us_timer_close(struct us_timer_t *timer); /* also from its own callback */
struct us_loop_t *us_timer_loop(struct us_timer_t *timer);

/* ---- contexts ---- */

struct us_socket_context_t *us_create_socket_context(int ssl, struct us_loop_t *loop, int ext_size,
                                                     struct us_socket_context_options_t options);
struct us_socket_context_t *us_create_child_socket_context(int ssl, struct us_socket_context_t *parent, int ext_size);
void us_socket_context_free(int ssl, struct us_socket_context_t *context);
void us_socket_context_close(int ssl, struct us_socket_context_t *context);

static inline void *us_socket_context_ext(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context + 1;
}
static inline struct us_loop_t *us_socket_context_loop(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context->loop;
}
static inline void us_socket_context_on_open(int ssl, struct us_socket_context_t *c, us_on_open_t f) {
    (void) ssl;
    c->cb.on_open = f;
}
static inline void us_socket_context_on_close(int ssl, struct us_socket_context_t *c, us_on_close_t f) {
    (void) ssl;
    c->cb.on_close = f;
}
static inline void us_socket_context_on_data(int ssl, struct us_socket_context_t *c, us_on_data_t f) {
    (void) ssl;
    c->cb.on_data = f;
}
static inline void us_socket_context_on_writable(int ssl, struct us_socket_context_t *c, us_on_event_t f) {
    (void) ssl;
    c->cb.on_writable = f;
}
static inline void us_socket_context_on_end(int ssl, struct us_socket_context_t *c, us_on_event_t f) {
    (void) ssl;
    c->cb.on_end = f;
}
static inline void us_socket_context_on_timeout(int ssl, struct us_socket_context_t *c, us_on_event_t f) {
    (void) ssl;
    c->cb.on_timeout = f;
}
static inline void us_socket_context_on_long_timeout(int ssl, struct us_socket_context_t *c, us_on_event_t f) {
    (void) ssl;
    c->cb.on_long_timeout = f;
}

/* Listen functions: NULL on failure with errno set; name resolution failures set errno 0 and us_gai_error(). */
struct us_listen_socket_t *us_socket_context_listen(int ssl, struct us_socket_context_t *context, const char *host,
                                                    int port, int options, int socket_ext_size);
struct us_listen_socket_t *us_socket_context_listen_unix(int ssl, struct us_socket_context_t *context, const char *path,
                                                         int options, int socket_ext_size);
/* Ours: same, for a path with its length (abstract names start with NUL) and permission bits, which are set before the name
 * is published; -1 leaves them to the umask. */
struct us_listen_socket_t *us_listen_unix(struct us_socket_context_t *context, const char *path, size_t path_length,
                                          int mode, int socket_ext_size);
/* Ours: takes over a listening socket that another process (a parent, systemd) has bound: TCP or unix, SOCK_STREAM. On
 * success, fd becomes non-blocking (for all processes that share it) and close-on-exec, and *where is filled in. On failure,
 * NULL with errno, and fd still belongs to the caller: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (no stream), EAFNOSUPPORT (neither
 * TCP nor unix), EINVAL (not listening), or an error of the system. Closing the listener removes no path. */
struct us_listen_socket_t *us_listen_fd(struct us_socket_context_t *context, int fd, int socket_ext_size,
                                        struct us_listen_address_t *where);
/* A numeric address and its port, or with port -1 a unix path or abstract name (which starts with NUL). */
struct us_listen_address_t {
    char text[128];
    int length;
    int port;
};
int us_listen_socket_fd(struct us_listen_socket_t *listener);
bool us_listen_socket_address(struct us_listen_socket_t *listener, struct us_listen_address_t *where);
int us_gai_error(void); /* of this thread's last listen, EAI_* or 0 */
void us_listen_socket_close(int ssl, struct us_listen_socket_t *listener);
int us_socket_local_port(int ssl, struct us_socket_t *s); /* a listen socket cast, or a connection; -1 on failure */

/* Declared for uWebSockets' templates, of which only the non-SSL instances are used, for ws and wss alike: these functions
 * are never called and do nothing. Server names belong to the configuration of us_socket_context_set_tls() (tls.h). */
void us_socket_context_add_server_name(int ssl, struct us_socket_context_t *context, const char *pattern,
                                       struct us_socket_context_options_t options, void *user);
void us_socket_context_remove_server_name(int ssl, struct us_socket_context_t *context, const char *pattern);
void us_socket_context_on_server_name(int ssl, struct us_socket_context_t *context,
                                      void (*cb)(struct us_socket_context_t *, const char *hostname));
void *us_socket_context_find_server_name_userdata(int ssl, struct us_socket_context_t *context, const char *pattern);
void *us_socket_server_name_userdata(int ssl, struct us_socket_t *s);
void *us_socket_context_get_native_handle(int ssl, struct us_socket_context_t *context);
void us_socket_context_on_pre_open(int ssl, struct us_socket_context_t *context,
                                   LIBUS_SOCKET_DESCRIPTOR (*cb)(struct us_socket_context_t *,
                                                                 LIBUS_SOCKET_DESCRIPTOR fd, char *ip, int ip_length));
struct us_socket_t *us_adopt_accepted_socket(int ssl, struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd,
                                             unsigned int socket_ext_size, char *ip, int ip_length);

/* Ours. Calls f for every socket that is open when it is reached; f may close any socket. */
void us_socket_context_each(struct us_socket_context_t *context, void (*f)(struct us_socket_t *, void *user),
                            void *user);

/* ---- sockets ---- */

static inline void *us_socket_ext(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s + 1;
}
static inline struct us_socket_context_t *us_socket_context(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->context;
}
static inline int us_socket_is_closed(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->closed;
}
static inline int us_socket_is_shut_down(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->shut_down;
}

void us_loop_refresh(struct us_loop_t *loop); /* reads the clock into `tick` */
void us_wheel_relink(struct us_socket_t *s); /* moves s to the slot of its earliest deadline */

/* Arms (or with 0 disarms) on_timeout, never early and at most a second and US_COARSE_LAG_NS late. A store and a compare. */
static inline void us_socket_timeout(int ssl, struct us_socket_t *s, unsigned int seconds) {
    (void) ssl;
    struct us_loop_t *loop = s->context->loop;
    if (s->closed || (loop->phase == US_PHASE_WRITABLE && s->context->inbound_liveness)) {
        return;
    }
    if (loop->depth == 0) {
        us_loop_refresh(loop); /* from outside an iteration `tick` may be hours old */
    }
    s->deadline_ = seconds ? loop->tick + seconds + 1 : 0;
    if (seconds && (s->check_at_ == 0 || s->deadline_ < s->check_at_)) {
        us_wheel_relink(s);
    }
}

void us_socket_long_timeout(int ssl, struct us_socket_t *s, unsigned int minutes);
/* Ours: us_socket_timeout() that counts while on_writable runs, too. */
void us_socket_arm(struct us_socket_t *s, unsigned int seconds);
/* Ours: the same for on_long_timeout; traffic does not extend it. 0 disarms. */
void us_socket_arm_long(struct us_socket_t *s, unsigned int seconds);
unsigned int us_socket_long_left(const struct us_socket_t *s); /* seconds until then, at least 1; 0: not armed */
/* Ours: closes the socket (code 0, no reason) after `seconds`; traffic does not extend it. 0 disarms. */
void us_socket_deadline(struct us_socket_t *s, unsigned int seconds);

/* Returns the bytes accepted, 0..length, never negative; never keeps `data`; no syscall while blocked. `length` is read as
 * unsigned. With msg_more and at most 16 KiB, the bytes that the kernel does not accept become the unsent tail (also while
 * blocked, up to 32 KiB in all) and `length` is returned. */
int us_socket_write(int ssl, struct us_socket_t *s, const char *data, int length, int msg_more);
/* Header and payload in one sendmsg; never returns 1..header_length on a live socket, as the rest of the header and one
 * byte of the payload then become the unsent tail. */
int us_socket_write2(int ssl, struct us_socket_t *s, const char *header, int header_length, const char *payload,
                     int payload_length);
/* Ours: several parts, at most 1 GiB in all, in one sendmsg. Returns the bytes accepted; the caller keeps the rest. Only if
 * us_socket_can_write_parts(): not for TLS, nor while the socket is blocked or closing. Changes the parts. */
int us_socket_can_write_parts(const struct us_socket_t *s);
size_t us_socket_write_parts(struct us_socket_t *s, struct iovec *parts, size_t count);
/* Ours, for a socket that is about to be closed: flushes once more, even if the socket is blocked. Nonzero: everything was
 * sent, and writes go to the kernel again. No on_writable follows. */
int us_socket_retry(struct us_socket_t *s);
void us_socket_shutdown(int ssl, struct us_socket_t *s);
void us_socket_shutdown_read(int ssl, struct us_socket_t *s);
struct us_socket_t *us_socket_close(int ssl, struct us_socket_t *s, int code, void *reason);
/* Ours: us_socket_close() with (0, NULL) that still delivers what the kernel has accepted: while bytes are not acknowledged,
 * a FIN follows them and the descriptor drains (tcp/draining_close.cpp), as close() with unread input would send a reset,
 * which ends the delivery. */
void us_socket_close_delivering(struct us_socket_t *s);
/* Ours: us_socket_close() with (0, NULL) and a reset: the kernel drops unsent bytes. */
void us_socket_reset(struct us_socket_t *s);
struct us_socket_t *us_socket_context_adopt_socket(int ssl, struct us_socket_context_t *context, struct us_socket_t *s,
                                                   int ext_size);
void *us_socket_get_native_handle(int ssl, struct us_socket_t *s);
void us_socket_remote_address(int ssl, struct us_socket_t *s, char *buf, int *length);
int us_socket_remote_port(int ssl, struct us_socket_t *s);

int us_poll_events(struct us_poll_t *p);
void us_poll_change(struct us_poll_t *p, struct us_loop_t *loop, int events);

/* Ours. */
/* For several writes in a row, inside one callback: until us_socket_push() the kernel may delay the end of each write, so
 * that it makes fewer and fuller segments. One socket at a time. us_socket_release(): the next write is the last. */
void us_socket_hold(struct us_socket_t *s);
void us_socket_release(struct us_socket_t *s);
void us_socket_push(struct us_socket_t *s);

/* Stops reading; idempotent. US_PAUSE_USER disarms on_timeout, and the caller that resumes must arm it again. */
void us_socket_pause(struct us_socket_t *s, int reason);
void us_socket_resume(struct us_socket_t *s, int reason);
/* For a socket that is not read, lets the kernel check whether the peer is still there: TCP sends probes after `seconds`
 * without traffic (tcp(7), SO_KEEPALIVE); if none is answered in as long again, an error event follows. Best effort; does
 * nothing on unix sockets, whose peer cannot vanish unnoticed. */
void us_socket_keepalive(struct us_socket_t *s, unsigned int seconds);
/* Bytes that the kernel has accepted and the peer has not acknowledged (on unix sockets: read); 0 when unknown. */
size_t us_socket_unacknowledged(struct us_socket_t *s);
/* Bytes that the peer has acknowledged (on unix sockets: read) of all that was written. Grows while the peer receives,
 * however much is written meanwhile; otherwise it stays equal, or falls by some overhead of TLS. Costs a system call. */
uint64_t us_socket_acknowledged_bytes(struct us_socket_t *s);
/* Seconds since the last acknowledgement of the peer, of a probe included; 0 where it is unknown (unix sockets). */
unsigned int us_socket_seconds_since_ack(struct us_socket_t *s);
/* Bytes that were accepted here and not yet by the kernel: unsent tail and TLS output. */
size_t us_socket_unsent_bytes(struct us_socket_t *s);
/* Only inside on_data: gives back the last bytes of the read. They are delivered again, before any others, after the other
 * sockets have had their turn, and dropped when the socket closes. us_socket_unread_bytes(): how many wait. */
void us_socket_unread(struct us_socket_t *s, const char *data, size_t length);
size_t us_socket_unread_bytes(const struct us_socket_t *s);
/* Passes bytes to on_data as if they had just arrived (copied into a padded buffer, in pieces); follows adoption and stops
 * at a close; on_close is deferred to its end. Returns the socket that received the last piece. */
struct us_socket_t *us_socket_deliver(struct us_socket_t *s, const char *data, size_t length);

#ifdef __cplusplus
}
#endif

#endif
