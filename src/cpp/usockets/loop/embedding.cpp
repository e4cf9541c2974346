// loop/embedding.cpp - a dispatch bracket for work outside the loop's callbacks, and the transfer of the receive
// buffer.
//
// Invariant: between us_loop_enter() and the matching us_loop_leave() the loop behaves as inside a callback: closed
// blocks stay readable, and on_close is called at the outermost leave or (us_loop_leave_later) in the next dispatch,
// which every iteration begins with.

#include "usockets/loop/embedding.h"

#include "usockets/loop/state.h"

void us_loop_enter(us_loop_t *loop) {
    if (loop->depth++ == 0) {
        us_loop_refresh(loop);
    }
}

void us_loop_leave(us_loop_t *loop) {
    if (loop->depth == 1 && loop->internal_->closes.head) {
        us_run_deferred_closes(loop);
    }
    us_loop_leave_later(loop);
}

void us_loop_leave_later(us_loop_t *loop) {
    if (loop->depth == 1) {
        us_loop_settle(loop);
    }
    loop->depth--;
}

bool us_loop_needs_turn(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    return !internal->iterating && (!us_timers_arm(loop) || internal->closed_blocks || internal->pending.head ||
                                    internal->ready.head || internal->dead_contexts || loop->num_polls == 0);
}

bool us_loop_is_iterating(us_loop_t *loop) { return loop->internal_->iterating; }

bool us_loop_prepare_recv_buffer(us_loop_t *loop) {
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
