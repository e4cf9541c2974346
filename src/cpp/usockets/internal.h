// internal.h - what the files of this folder share and nobody else sees.
//
// Ownership: the loop owns every list below. A block that is closed (socket, listen socket, watch, linger, timer, context)
// goes to a dead list and is freed at the end of the iteration, because the events of the current epoll batch, and
// callers up the stack, may still point to it. That is the one rule that makes stale pointers harmless.
//
// Depth: us_dispatch_t brackets every callback. When the outermost one ends it runs the deferred on_close queue, inside
// its own bracket, so on_close may close further sockets without recursion and each gets on_close exactly once.
//
// All fields are loop-thread only, except `wake_pending` and `wake_fd` (atomic; written once).

#pragma once

#include "usockets/libusockets.h"
#include "usockets/loop/sys.h"
#include "usockets/tcp/transport.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>

static_assert(alignof(std::max_align_t) >= LIBUS_EXT_ALIGNMENT,
              "malloc must align blocks as ext memory is promised to be");
static_assert(LIBUS_RECV_BUFFER_LENGTH % 16 == 0);

enum us_flag_t : uint32_t {
    US_FLAG_PENDING = 1,  // linked into the loop's pending list
    US_FLAG_DOOMED = 2,  // a fatal error was seen: nothing is written any more, closed at the end of the iteration
    US_FLAG_FIN_SENT = 4,  // SHUT_WR was done
    US_FLAG_END_CALLED = 16,  // on_end was delivered, for whichever reason
    US_FLAG_PARKED = 32,  // out of epoll: peer gone, unread bytes, reading paused
    US_FLAG_RESET = 64,  // close with a reset
    US_FLAG_READY = 128,  // linked into the loop's ready list
    US_FLAG_EARLY_WRITE = 256,  // blocked until the handshake is done: no use in polling for writing
    US_FLAG_UNREAD = 512,  // the layer above has given bytes back, which come first: pending_close_reason_ has them
};

// What epoll_event.data points to, in the low bits (blocks are 16-aligned).
enum us_kind_t : uintptr_t {
    US_KIND_SOCKET,
    US_KIND_LISTENER,
    US_KIND_WAKE,
    US_KIND_TIMER,
    US_KIND_WATCH,
    US_KIND_LINGER,
    US_KIND_PROXIED
};

enum {
    US_EVENT_BATCH = 1024,
    US_WHEEL_SLOTS = 1024,
    US_ACCEPT_BURST = 128,
    US_SWEEP_BURST = 256,
    US_ACCEPT_PAUSE_MS = 200,
    US_BACKLOG = 4096,
    US_READS_PER_EVENT = 4,
    US_READ_BUDGET_NS = 1'000'000,  // of one visit
    US_COARSE_LAG_NS = 50'000'000,  // the kernel's stored clock is less behind: two ticks of 10 ms, and stolen time
    US_READ_AIM_NS = 500'000,  // of the handlers of one read
    US_READ_MIN = 4096,
    US_SPILL_CHUNK = 16 * 1024,  // the largest msg_more write that may be spilled: uWebSockets' cork buffer
    US_SPILL_MAX = 32 * 1024,  // two of them
    US_LAST_READS_S = 10,  // what a broken connection has left behind may take so long
    US_LINGER_MAX = 1024,
    US_LINGER_MS = 2000,
};

constexpr uint64_t US_NS_PER_SECOND = 1'000'000'000;
constexpr uint64_t US_NS_PER_MS = 1'000'000;
constexpr uint32_t US_READ_INTEREST = EPOLLIN | EPOLLRDHUP;

// Adds to a number of the loop's that any thread may read.
static inline void us_count_bytes(uint64_t *total, ssize_t n) {
    __atomic_store_n(total, *total + (uint64_t) n, __ATOMIC_RELAXED);
}

// Bytes of s that the kernel, or its transport, has taken.
static inline void us_count_written(us_socket_t *s, ssize_t n) {
    s->written_ += (uint64_t) n;
    us_count_bytes(&s->context->loop->bytes_written_, n);
}

struct us_proxied_t;

struct us_spill_t {
    uint32_t length, offset, capacity;
    char *data() { return (char *) (this + 1); }
};

// See loop/timeout_wheel.cpp.
struct us_wheel_t {
    us_socket_t *slots[US_WHEEL_SLOTS];
    us_socket_t *due;  // taken out of their slots by the running sweep
    uint64_t occupied[US_WHEEL_SLOTS / 64];
    uint32_t swept;  // every slot up to this tick has been looked at
    uint32_t count;
};
constexpr uint32_t US_WHEEL_DUE = UINT32_MAX;  // check_at_ of a socket in `due`

struct us_timer_t {
    us_loop_t *loop;
    us_timer_t *prev, *next;
    void (*cb)(us_timer_t *);
    uint64_t due_ns, repeat_ns;  // due_ns 0 = off
    uint32_t ran_in_pass;
    bool fallthrough, closed;
};
static_assert(sizeof(us_timer_t) % 8 == 0);

struct us_watch_t {
    us_loop_t *loop;
    us_watch_t *prev, *next;
    void (*cb)(void *);
    void *user;
    int fd;
    bool dead;
};

struct us_linger_t {
    us_linger_t *prev, *next;
    uint64_t deadline_ns;
    int fd;  // -1: on the dead list
};

// `s` comes first: us_socket_local_port() and friends take a listen socket cast to a socket.
struct us_listen_socket_t {
    us_socket_t s;
    us_listen_socket_t *prev, *next;
    us_timer_t *retry;  // runs while accepting is paused for want of descriptors
    int socket_ext_size;
    bool is_tcp;
    dev_t device;  // of the published unix path
    ino_t inode;
    char path[sizeof(sockaddr_un::sun_path) + 1];  // empty: nothing to unlink
};

// A running us_socket_context_each(); unlinking a socket moves the cursors that stand on it.
struct us_cursor_t {
    us_socket_t *next;
    us_cursor_t *outer;
};

struct us_loop_internal_t {
    int epfd = -1, wake_fd = -1, timer_fd = -1;
    std::atomic<bool> wake_pending{false};
    bool iterating = false;
    void (*wakeup_cb)(us_loop_t *) = nullptr;
    void (*pre_cb)(us_loop_t *) = nullptr;
    void (*post_cb)(us_loop_t *) = nullptr;
    void (*release_cb)(void *) = nullptr;
    void *release_user = nullptr;

    uint64_t base_ns = 0, now_ns = 0;
    uint64_t armed_ns = 0;  // when the timerfd will fire, 0 = off
    us_wheel_t wheel{};
    us_timer_t *timers = nullptr, *dead_timers = nullptr;
    uint32_t timer_pass = 0;

    us_socket_t *closed_blocks = nullptr;  // by next_
    us_socket_t *close_head = nullptr, *close_tail = nullptr;  // on_close is due, by prev_
    us_socket_t *pending_head = nullptr, *pending_tail = nullptr;  // by pending_next_
    us_socket_t *ready_head = nullptr, *ready_tail = nullptr;  // received bytes wait in the transport, by ready_next_
    uint64_t iteration = 0;
    int last_events = 0;
    us_socket_context_t *contexts = nullptr, *dead_contexts = nullptr;
    us_listen_socket_t *dead_listeners = nullptr;
    us_watch_t *watches = nullptr, *dead_watches = nullptr;
    us_linger_t *linger_head = nullptr, *linger_tail = nullptr, *dead_lingers = nullptr;
    int num_lingers = 0;
    us_proxied_t *proxied_head = nullptr, *proxied_tail = nullptr, *dead_proxied = nullptr;
    us_cursor_t *cursors = nullptr;

    us_socket_t *changed = nullptr;  // the one whose change was not reported yet
    void (*change_cb)(void *, us_socket_t *) = nullptr;
    void (*failure_cb)(void *) = nullptr;
    void *failure_user = nullptr;
    void *change_user = nullptr;

    us_socket_t *held = nullptr;  // what it sends may wait for more, see us_socket_hold()
    us_socket_t *unpushed = nullptr;  // the last bytes it has sent may still wait

    size_t read_limit = LIBUS_RECV_BUFFER_LENGTH / 2;  // bytes of one read, see tcp/read.cpp
    char *recv_buffer = nullptr;  // LIBUS_RECV_BUFFER_LENGTH bytes with padding on both sides
    char *next_recv_buffer = nullptr;  // the same, once it was asked for
    epoll_event events[US_EVENT_BATCH];
};

// ---- memory: functions that need it throw std::bad_alloc, before anything is changed ----

[[gnu::cold, noreturn]] void us_out_of_memory();

// What the loop calls of the layer above goes through here: a C++ exception, which is memory that was not to be had, ends that
// socket (NULL: nothing), and neither the iteration nor the process.
[[gnu::cold]] void us_failed(us_loop_t *loop, us_socket_t *s);
template <typename F>
[[gnu::always_inline]] inline void us_contain(us_loop_t *loop, us_socket_t *s, F call) {
    try {
        call();
    } catch (const std::exception &) {
        us_failed(loop, s);
    }
}

static inline void *us_alloc(size_t size) {
    void *p = malloc(size);
    if (!p) {
        us_out_of_memory();
    }
    return p;
}

// ---- dispatch bracket ----

// loop/timer.cpp; cheap. Ahead of the clock by up to US_COARSE_LAG_NS, so that a deadline that is set by it does not come early:
// what is due is told by the exact clock.
void us_loop_refresh_tick(us_loop_t *loop);

void us_run_deferred_closes(us_loop_t *loop);  // loop/loop.cpp

struct us_dispatch_t {
    us_loop_t *const loop;
    const int outer_phase;

    us_dispatch_t(us_loop_t *loop_, int phase) : loop(loop_), outer_phase(loop_->phase) {
        if (loop->depth++ == 0) {
            us_loop_refresh_tick(loop);
        }
        loop->phase = phase;
    }
    ~us_dispatch_t() {
        loop->phase = outer_phase;
        if (loop->depth == 1 && loop->internal_->close_head) {
            us_run_deferred_closes(loop);
        }
        loop->depth--;
    }
    us_dispatch_t(const us_dispatch_t &) = delete;
    us_dispatch_t &operator=(const us_dispatch_t &) = delete;
};

// ---- the pieces, by file ----

// loop/poll.cpp
int us_epoll_set(us_loop_t *loop, int operation, int fd, uint32_t events, void *block, us_kind_t kind);
void us_socket_update_interest(us_socket_t *s);
void us_socket_event(us_socket_t *s, uint32_t events);

static inline bool us_socket_is_reading(const us_socket_t *s) {
    return !s->pause_reasons && !s->peer_ended && !s->read_shutdown;
}

// loop/loop.cpp
void us_pending_add(us_socket_t *s);
void us_ready_add(us_socket_t *s);  // us_socket_read() in the next iteration

// tcp/socket.cpp
us_socket_t *us_socket_new(us_socket_context_t *context, int fd,
                           unsigned int ext_size);  // NULL with errno; fd stays the caller's
void us_socket_set_address(us_socket_t *s, const sockaddr_storage *address);
void us_socket_open(us_socket_t *s);  // on_open
void us_socket_discard(us_socket_t *s);  // closed, without any callback
void us_socket_doom(us_socket_t *s);  // closes at the end of the iteration
void us_socket_close_dead(us_socket_t *s);  // closes a connection that broke: (0, NULL), no lingering
void us_socket_close_refused(us_socket_t *s);  // closes one whose transport has said why: (0, NULL), lingering
void us_socket_free_block(us_socket_t *s);

static inline us_socket_t *us_socket_follow(us_socket_t *s) {
    while (s->moved_to) {
        s = s->moved_to;
    }
    return s;
}

// tcp/read.cpp
void us_socket_read(us_socket_t *s, uint32_t events);
void us_socket_read_last(us_socket_t *s);  // what a broken connection has left behind
void us_socket_drop_unread(us_socket_t *s);
void us_socket_deliver_end(us_socket_t *s);  // on_end, at most once

// tcp/write.cpp
void us_socket_writable(us_socket_t *s);
void us_socket_finish_writing(us_socket_t *s);  // FIN
void us_socket_block(us_socket_t *s);  // not blocked yet
void us_socket_unblock(us_socket_t *s);

// loop/timeout_wheel.cpp
void us_wheel_link(us_wheel_t *wheel, us_socket_t *s, uint32_t deadline);
void us_wheel_unlink(us_wheel_t *wheel, us_socket_t *s);
void us_wheel_collect(us_wheel_t *wheel, uint32_t tick);  // moves what may be due to wheel->due
uint32_t us_wheel_next(const us_wheel_t *wheel);  // tick of the next occupied slot, 0 = none
void us_wheel_sweep(us_loop_t *loop, uint32_t tick);  // runs what is due at `tick`

// loop/timer.cpp
bool us_timers_arm(us_loop_t *loop);  // false: the kernel timer could not be set
void us_timers_run(us_loop_t *loop);
void us_timers_free_dead(us_loop_internal_t *internal);
void us_timers_free_all(us_loop_internal_t *internal);

// tcp/context.cpp
void us_context_link(us_socket_t *s);
void us_context_unlink(us_socket_t *s);
void us_contexts_free_dead(us_loop_internal_t *internal);
void us_contexts_detach(us_loop_t *loop);  // the loop goes away before its contexts
void us_contexts_close_fds(us_loop_t *loop);  // after fork

// tcp/listen.cpp, tcp/listen_unix.cpp, tcp/listen_fd.cpp
us_listen_socket_t *us_listener_new(us_socket_context_t *context, int fd, int socket_ext_size, bool is_tcp);
void us_listener_event(us_listen_socket_t *listener);
void us_listener_unpublish(us_listen_socket_t *listener);  // removes the path of a unix listener, if it is still ours
void us_listeners_free_dead(us_loop_internal_t *internal);

// proxy/proxy.cpp
bool us_proxy_expected(const us_socket_context_t *context, const sockaddr_storage *peer);
bool us_proxy_await(us_listen_socket_t *listener, int fd, const sockaddr_storage *peer);  // takes over fd on success
void us_proxied_event(us_loop_t *loop, us_proxied_t *proxied);
uint64_t us_proxied_next(const us_loop_internal_t *internal);  // when the oldest one runs out of time, 0 = never
void us_proxied_expire(us_loop_internal_t *internal);
void us_proxied_close_of(us_listen_socket_t *listener);
void us_proxied_close_fds(us_loop_internal_t *internal);
void us_proxied_free_dead(us_loop_internal_t *internal);

// tcp/draining_close.cpp
bool us_linger(us_loop_t *loop, int fd, bool registered);
void us_linger_event(us_loop_t *loop, us_linger_t *linger);
void us_linger_expire(us_loop_t *loop);
void us_lingers_free_dead(us_loop_internal_t *internal);
void us_lingers_free_all(us_loop_internal_t *internal);

// loop/watch.cpp
void us_watch_event(us_watch_t *watch);
void us_wake_event(us_loop_t *loop);
void us_watches_free_dead(us_loop_internal_t *internal);
void us_watches_free_all(us_loop_internal_t *internal);
