// loop/state.h - the state of a loop, and how callbacks are bracketed. For the socket layer only.
//
// Ownership: the loop owns every list below. A closed block (socket, listen socket, watch, draining connection, timer,
// context) is freed at the end of the iteration, because the events of the current epoll batch, and callers up the
// stack, may still point to it. This one rule makes stale pointers harmless.
//
// Depth: us_dispatch_t brackets every callback. When the outermost one ends, it runs the queue of deferred on_close
// calls inside its own bracket, so on_close may close further sockets without recursion, and each gets on_close exactly
// once.
//
// All fields are loop-thread only, except `wake_pending` and `wake_fd` (atomic; written once).

#pragma once

#include "usockets/loop/list.h"
#include "usockets/loop/loop.h"
#include "usockets/loop/sys.h"
#include "usockets/loop/timeout_wheel.h"
#include "usockets/loop/timer.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>

static_assert(alignof(std::max_align_t) >= LIBUS_EXT_ALIGNMENT,
              "malloc must align blocks as ext memory is promised to be");
static_assert(LIBUS_RECV_BUFFER_LENGTH % 16 == 0);

constexpr int US_EVENT_BATCH = 1024;

struct us_watch_t;
struct us_draining_t;
struct us_proxied_t;

// A running us_socket_context_each(). Unlinking a socket moves each cursor that points to it.
struct us_cursor_t {
    us_socket_t *next;
    us_cursor_t *outer;
};

// A callback of the layer above.
template <typename... Args>
struct us_hook_t {
    void (*cb)(void *user, Args...) = nullptr;
    void *user = nullptr;

    void operator()(Args... args) const {
        if (cb) {
            cb(user, args...);
        }
    }
};

struct us_loop_internal_t {
    int epfd = -1, wake_fd = -1, timer_fd = -1;
    std::atomic<bool> wake_pending{false};
    bool iterating = false;
    void (*wakeup_cb)(us_loop_t *) = nullptr;
    void (*pre_cb)(us_loop_t *) = nullptr;
    void (*post_cb)(us_loop_t *) = nullptr;
    us_hook_t<> on_release, on_failure;
    us_hook_t<us_socket_t *> on_change;

    uint64_t base_ns = 0, now_ns = 0;
    uint64_t armed_ns = 0;  // when the timerfd will fire, 0 = off
    us_wheel_t wheel{};
    us_timer_t *timers = nullptr, *unset_timers = nullptr;
    uint32_t timer_pass = 0;

    us_deferred_free_t *dead_blocks = nullptr;  // see us_free_after_iteration()
    us_socket_t *closed_blocks = nullptr;  // by next_
    us_queue_t<us_socket_t, &us_socket_t::prev_> closes;  // on_close is due
    us_queue_t<us_socket_t, &us_socket_t::pending_next_> pending;
    us_queue_t<us_socket_t, &us_socket_t::ready_next_> ready;  // have received bytes in user space
    uint64_t iteration = 0;
    int last_events = 0;
    us_socket_context_t *contexts = nullptr, *dead_contexts = nullptr;
    us_watch_t *watches = nullptr;
    us_aged_list_t<us_draining_t> draining;
    int num_draining = 0;
    us_aged_list_t<us_proxied_t> proxied;
    us_cursor_t *cursors = nullptr;

    us_socket_t *changed = nullptr;  // its change is not reported yet

    us_socket_t *held = nullptr;  // the kernel may delay the end of its writes, see us_socket_hold()
    us_socket_t *unpushed = nullptr;  // the kernel may still delay its last bytes

    size_t read_limit = LIBUS_RECV_BUFFER_LENGTH / 2;  // bytes of one read, see tcp/read.cpp
    char *recv_buffer = nullptr;  // LIBUS_RECV_BUFFER_LENGTH bytes with padding on both sides
    char *next_recv_buffer = nullptr;  // the same, after us_loop_prepare_recv_buffer()
    epoll_event events[US_EVENT_BATCH];
};

// Adds to a counter of the loop that any thread may read.
static inline void us_count_bytes(uint64_t *total, ssize_t n) {
    __atomic_store_n(total, *total + (uint64_t) n, __ATOMIC_RELAXED);
}

// ---- memory: functions that allocate throw std::bad_alloc, before they change anything ----

static inline void *us_checked(void *memory) {
    if (!memory) {
        us_out_of_memory();
    }
    return memory;
}
static inline void *us_alloc(size_t size) { return us_checked(malloc(size)); }
static inline void *us_alloc_zeroed(size_t size) { return us_checked(calloc(1, size)); }

template <typename T, auto Next = &T::next>
inline void us_free_list(T *&list) {
    while (T *block = list) {
        list = block->*Next;
        free(block);
    }
}

// Outside an iteration, nothing else points to the block.
static inline void us_free_after_iteration(us_loop_internal_t *internal, us_deferred_free_t *block) {
    if (internal->iterating) {
        block->next_dead = internal->dead_blocks;
        internal->dead_blocks = block;
    } else {
        free(block);
    }
}

// ---- dispatch ----

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
        if (loop->depth == 1 && loop->internal_->closes.head) {
            us_run_deferred_closes(loop);
        }
        loop->depth--;
    }
    us_dispatch_t(const us_dispatch_t &) = delete;
    us_dispatch_t &operator=(const us_dispatch_t &) = delete;
};
