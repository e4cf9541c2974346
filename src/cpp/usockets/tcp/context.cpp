// tcp/context.cpp - a set of callbacks and the sockets that use them.
//
// A context owns its open sockets (`head_`) and listen sockets. Its memory outlives every block that points to it: a
// freed context goes to the loop's dead list and is released after the closed blocks, at the end of the iteration. A
// child shares its parent's transport and so holds a reference on it; uWebSockets frees the parent first.
//
// us_socket_context_close() calls on_close for each socket; us_socket_context_free() comes after the layer above has
// destroyed its data, so it closes open sockets without callbacks. If the loop was freed first, `loop` is NULL, and
// only memory is freed.

#include "usockets/tcp/context.h"

#include "usockets/loop/state.h"
#include "usockets/tcp/listen.h"
#include "usockets/tcp/socket.h"
#include "usockets/tcp/transport.h"

static void add(us_socket_context_t *&list, us_socket_context_t *context) {
    us_list_push<us_socket_context_t, &us_socket_context_t::prev_, &us_socket_context_t::next_>(list, context);
}

static void remove(us_socket_context_t *&list, us_socket_context_t *context) {
    us_list_remove<us_socket_context_t, &us_socket_context_t::prev_, &us_socket_context_t::next_>(list, context);
}

void us_context_link(us_socket_t *s) {
    us_socket_context_t *context = s->context;
    us_list_push<us_socket_t, &us_socket_t::prev_, &us_socket_t::next_>(context->head_, s);
    context->num_sockets++;
    context->loop->num_polls++;
}

void us_context_unlink(us_socket_t *s) {
    us_socket_context_t *context = s->context;
    for (us_cursor_t *cursor = context->loop->internal_->cursors; cursor; cursor = cursor->outer) {
        if (cursor->next == s) {
            cursor->next = s->next_;
        }
    }
    us_list_remove<us_socket_t, &us_socket_t::prev_, &us_socket_t::next_>(context->head_, s);
    context->num_sockets--;
    context->loop->num_polls--;
}

us_socket_context_t *us_loop_next_context(us_loop_t *loop, us_socket_context_t *previous) {
    return previous ? previous->next_ : loop->internal_->contexts;
}

static us_socket_context_t *make_context(us_loop_t *loop, int ext_size) {
    const size_t size = sizeof(us_socket_context_t) + (size_t) ext_size;
    us_socket_context_t *context = (us_socket_context_t *) us_alloc_zeroed(size);
    context->loop = loop;
    context->transport_refs_ = 1;
    add(loop->internal_->contexts, context);
    return context;
}

us_socket_context_t *us_create_socket_context(int ssl, us_loop_t *loop, int ext_size, us_socket_context_options_t) {
    if (ssl) {
        errno = EOPNOTSUPP;  // TLS is set by us_socket_context_set_tls(), not by the files that the options name
        return nullptr;
    }
    return make_context(loop, ext_size);
}

us_socket_context_t *us_create_child_socket_context(int, us_socket_context_t *parent, int ext_size) {
    us_socket_context_t *child = make_context(parent->loop, ext_size);
    child->is_child_ = true;
    child->transport_ = parent->transport_;
    child->parent_ = parent;
    parent->transport_refs_++;
    return child;
}

static void release(us_socket_context_t *context) {
    while (context && --context->transport_refs_ == 0) {
        us_socket_context_t *parent = context->parent_;
        if (context->transport_config_) {
            context->transport_->free_config(context);
        }
        free(context);
        context = parent;
    }
}

void us_contexts_free_dead(us_loop_internal_t *internal) {
    while (us_socket_context_t *context = internal->dead_contexts) {
        internal->dead_contexts = context->next_;
        release(context);
    }
}

static void close_listeners(us_socket_context_t *context) {
    while (context->listen_head_) {
        us_listen_socket_close(0, context->listen_head_);
    }
}

static void discard_all(us_socket_context_t *context) {
    close_listeners(context);
    while (context->head_) {
        us_socket_discard(context->head_);
    }
}

void us_socket_context_free(int, us_socket_context_t *context) {
    if (!context->loop) {
        release(context);
        return;
    }
    us_loop_internal_t *internal = context->loop->internal_;
    discard_all(context);
    for (us_socket_t *s = internal->closes.head; s; s = s->prev_) {
        if (s->context == context) {
            s->on_close_due_ = 0;
        }
    }
    context->cb = {};
    remove(internal->contexts, context);
    add(internal->dead_contexts, context);
}

void us_contexts_detach(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    while (us_socket_context_t *context = internal->contexts) {
        discard_all(context);
        remove(internal->contexts, context);
        context->loop = nullptr;
    }
}

void us_contexts_close_fds(us_loop_t *loop) {
    for (us_socket_context_t *context = loop->internal_->contexts; context; context = context->next_) {
        for (us_socket_t *s = context->head_; s; s = s->next_) {
            us_sys_close(s->fd);
            s->fd = -1;
        }
        for (us_listen_socket_t *listener = context->listen_head_; listener; listener = listener->next) {
            us_sys_close(listener->s.fd);
            listener->s.fd = -1;
            listener->path[0] = 0;  // the parent still serves it
        }
    }
}

void us_socket_context_each(us_socket_context_t *context, void (*f)(us_socket_t *, void *), void *user) {
    us_loop_internal_t *internal = context->loop->internal_;
    us_dispatch_t dispatch(context->loop, context->loop->phase);
    us_cursor_t cursor{context->head_, internal->cursors};
    internal->cursors = &cursor;
    while (us_socket_t *s = cursor.next) {
        cursor.next = s->next_;
        f(s, user);
    }
    internal->cursors = cursor.outer;
}

// Repeats until the list is empty, as a callback may adopt a socket into this context. The cursor avoids defect U4.
void us_socket_context_close(int, us_socket_context_t *context) {
    close_listeners(context);
    while (context->head_) {
        us_socket_context_each(context, [](us_socket_t *s, void *) { us_socket_close(0, s, 0, nullptr); }, nullptr);
    }
}
