// tcp/context.cpp - a set of callbacks and the sockets that use them.
//
// A context owns its open sockets (`head_`) and listen sockets. Its memory outlives every block that points to it: a freed
// context goes to the loop's dead list and is released after the closed blocks, at the end of the iteration. A child
// shares its parent's transport and so holds a reference on it; uWebSockets frees the parent first.
//
// us_socket_context_close() calls on_close for each socket; us_socket_context_free() comes after the layer above has
// destroyed its data, so it closes open sockets without callbacks. If the loop was freed first, `loop` is NULL, and only
// memory is freed.

#include "usockets/tcp/context.h"

#include "usockets/tcp/listen.h"
#include "usockets/tcp/socket.h"

void us_context_link(us_socket_t *s) {
    us_socket_context_t *context = s->context;
    s->prev_ = nullptr;
    s->next_ = context->head_;
    if (context->head_) {
        context->head_->prev_ = s;
    }
    context->head_ = s;
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
    (s->prev_ ? s->prev_->next_ : context->head_) = s->next_;
    if (s->next_) {
        s->next_->prev_ = s->prev_;
    }
    context->num_sockets--;
    context->loop->num_polls--;
}

static us_socket_context_t *make_context(us_loop_t *loop, int ext_size) {
    us_socket_context_t *context = (us_socket_context_t *) us_alloc(sizeof(us_socket_context_t) + (size_t) ext_size);
    memset((void *) context, 0, sizeof(us_socket_context_t));
    context->loop = loop;
    context->transport_refs_ = 1;
    us_loop_internal_t *internal = loop->internal_;
    context->next_ = internal->contexts;
    if (context->next_) {
        context->next_->prev_ = context;
    }
    internal->contexts = context;
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

static void discard_all(us_socket_context_t *context) {
    while (context->listen_head_) {
        us_listen_socket_close(0, context->listen_head_);
    }
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
    for (us_socket_t *s = internal->close_head; s; s = s->prev_) {
        if (s->context == context) {
            s->on_close_due_ = 0;
        }
    }
    context->cb = {};
    (context->prev_ ? context->prev_->next_ : internal->contexts) = context->next_;
    if (context->next_) {
        context->next_->prev_ = context->prev_;
    }
    context->next_ = internal->dead_contexts;
    internal->dead_contexts = context;
}

void us_contexts_detach(us_loop_t *loop) {
    us_loop_internal_t *internal = loop->internal_;
    while (us_socket_context_t *context = internal->contexts) {
        discard_all(context);
        internal->contexts = context->next_;
        context->prev_ = context->next_ = nullptr;
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
    while (context->listen_head_) {
        us_listen_socket_close(0, context->listen_head_);
    }
    while (context->head_) {
        us_socket_context_each(context, [](us_socket_t *s, void *) { us_socket_close(0, s, 0, nullptr); }, nullptr);
    }
}

// Server names belong to a TLS configuration (tls/tls.h), so contexts have none.
void us_socket_context_add_server_name(int, us_socket_context_t *, const char *, us_socket_context_options_t, void *) {}
void us_socket_context_remove_server_name(int, us_socket_context_t *, const char *) {}
void us_socket_context_on_server_name(int, us_socket_context_t *, void (*)(us_socket_context_t *, const char *)) {}
void *us_socket_context_find_server_name_userdata(int, us_socket_context_t *, const char *) { return nullptr; }
void *us_socket_server_name_userdata(int, us_socket_t *) { return nullptr; }
void *us_socket_context_get_native_handle(int, us_socket_context_t *) { return nullptr; }
void us_socket_context_on_pre_open(int, us_socket_context_t *, int (*)(us_socket_context_t *, int, char *, int)) {}
