// loop/loop.h - the iterations of a loop, what they defer, and the callbacks by which the layer above follows them.
// Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

#include <exception>

// One iteration; waits at most timeout_ms (-1: until something happens). Returns num_polls.
// Order: pre_cb, release hook, wait, timers, wake-up and watches, sockets, ready sockets, timeouts (after the reads, as
// bytes that arrived while the thread was busy are a sign of life), release hook, post_cb, on_end of sockets whose
// reading was shut down, free of closed blocks. Deferred on_close run whenever the outermost callback has returned.
int us_loop_iterate(us_loop_t *loop, int timeout_ms);
int us_loop_last_events(us_loop_t *loop);  // how many the last iteration found
// The epoll descriptor, for a foreign loop: readable when an iteration has something to do (timers included).
int us_loop_fd(us_loop_t *loop);
// After fork() in the child: closes the loop's descriptors without touching the kernel objects that the parent shares.
void us_loop_abandon(us_loop_t *loop);

// Called where the loop thread no longer needs its caller's lock (Python's GIL): before the wait and before post_cb.
void us_loop_on_release(us_loop_t *loop, void (*cb)(void *user), void *user);
// Called when a callback has thrown, before its socket is closed, so that the layer above can repair its state.
void us_loop_on_failure(us_loop_t *loop, void (*cb)(void *user), void *user);

// Accounts for the memory that sockets use. A socket has changed when a write to it was short or found it blocked, when
// it became writable, and when the layer above calls us_socket_changed(). cb may only read and count. It is called
// late, so that it sees the change complete: when another socket changes, in us_loop_settle(), in us_loop_leave(), or
// at the end of the iteration, whichever is first. Not for closed sockets; adopt counts as a change of the new block.
void us_loop_on_change(us_loop_t *loop, void (*cb)(void *user, us_socket_t *s), void *user);
void us_socket_changed(us_socket_t *s);
void us_loop_settle(us_loop_t *loop);

// Bytes that connections have read and written since the loop was made, without the overhead of TLS. Any thread.
static inline uint64_t us_loop_bytes_read(const us_loop_t *loop) {
    return __atomic_load_n(&loop->bytes_read_, __ATOMIC_RELAXED);
}
static inline uint64_t us_loop_bytes_written(const us_loop_t *loop) {
    return __atomic_load_n(&loop->bytes_written_, __ATOMIC_RELAXED);
}

// ---- exceptions of the layer above end a socket, not the loop ----

[[gnu::cold]] void us_callback_threw(us_loop_t *loop, us_socket_t *s);

// Calls from the loop to the layer above go through us_contain(). A C++ exception, that is a failed allocation, closes
// `s` (NULL: nothing) and ends neither the iteration nor the process.
template <typename F>
[[gnu::always_inline]] inline void us_contain(us_loop_t *loop, us_socket_t *s, F call) {
    try {
        call();
    } catch (const std::exception &) {
        us_callback_threw(loop, s);
    }
}

// ---- for the socket layer ----

[[gnu::cold, noreturn]] void us_out_of_memory();
void us_run_deferred_closes(us_loop_t *loop);
void us_pending_add(us_socket_t *s);
void us_ready_add(us_socket_t *s);  // us_socket_read() in the next iteration
