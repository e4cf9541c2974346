// loop/embedding.cpp - functions for a layer above that drives the loop from outside its callbacks: a dispatch bracket, the
// walk over contexts, and the transfer of the receive buffer.
//
// Invariant: between us_loop_enter() and the matching us_loop_leave() the loop behaves as inside a callback: closed blocks
// stay readable, and on_close is called at the outermost leave or (us_loop_leave_later) in the next dispatch, which every
// iteration begins with.

#include "usockets/loop/loop.h"
#include "usockets/tcp/socket.h"

void us_loop_enter(us_loop_t *loop) {
    if (loop->depth++ == 0) {
        us_loop_refresh(loop);
    }
}

void us_loop_leave(us_loop_t *loop) {
    if (loop->depth == 1) {
        if (loop->internal_->close_head) {
            us_run_deferred_closes(loop);
        }
        us_loop_settle(loop);
    }
    loop->depth--;
}

void us_loop_leave_later(us_loop_t *loop) {
    if (loop->depth == 1) {
        us_loop_settle(loop);
    }
    loop->depth--;
}

int us_loop_needs_turn(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    if (internal->iterating) {
        return 0;
    }
    return !us_timers_arm(loop) || internal->closed_blocks || internal->pending_head || internal->ready_head ||
           internal->dead_listeners || internal->dead_watches || internal->dead_draining || internal->dead_proxied ||
           internal->dead_contexts || loop->num_polls == 0;
}

int us_loop_is_iterating(us_loop_t *loop) { return loop->internal_->iterating; }

us_socket_context_t *us_loop_next_context(us_loop_t *loop, us_socket_context_t *previous) {
    return previous ? previous->next_ : loop->internal_->contexts;
}

us_socket_t *us_socket_newest(us_socket_t *s) { return us_socket_follow(s); }

int us_loop_prepare_recv_buffer(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    if (!internal->next_recv_buffer) {
        internal->next_recv_buffer = (char *) malloc(LIBUS_RECV_BUFFER_LENGTH + 2 * LIBUS_RECV_BUFFER_PADDING);
    }
    return internal->next_recv_buffer != nullptr;
}

void *us_loop_take_recv_buffer(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    if (!us_loop_prepare_recv_buffer(loop)) {
        us_out_of_memory();
    }
    char *taken = internal->recv_buffer - LIBUS_RECV_BUFFER_PADDING;
    internal->recv_buffer = internal->next_recv_buffer + LIBUS_RECV_BUFFER_PADDING;
    internal->next_recv_buffer = nullptr;
    return taken;
}

const char *us_loop_recv_buffer(us_loop_t *loop) { return loop->internal_->recv_buffer; }
