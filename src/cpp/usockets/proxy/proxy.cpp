// proxy/proxy.cpp - connections whose PROXY header has not arrived yet.
//
// They are not sockets: the layer above does not see them, no transport (TLS) has begun, and there are no callbacks.
// The loop lists them in order of arrival (the timeout is the same for all); they are closed with the listen socket
// that accepted them. When the header is complete the descriptor becomes an ordinary socket.
//
// No byte behind the header is read here: MSG_PEEK shows the bytes first, and then exactly those of the header are
// read. As each visit reads all that it has peeked at, or is the last one, epoll's level triggering never spins.

#include "usockets/proxy/proxy.h"

#include "usockets/loop/poll.h"
#include "usockets/proxy/parse.h"
#include "usockets/tcp/listen.h"
#include "usockets/tcp/socket.h"

struct us_proxied_t : us_deferred_free_t {
    us_proxied_t *prev, *next;
    us_listen_socket_t *listener;
    uint64_t since_ns;
    sockaddr_storage peer;
    int fd;  // -1: released, for events of the same batch
    uint32_t length;
    uint8_t bytes[US_PROXY_MAX];
};

void us_socket_context_proxy(us_socket_context_t *context, const us_networks_t *trusted, unsigned int seconds) {
    context->proxy_trusted_ = trusted;
    if (trusted) {  // else waiting connections keep their timeout
        context->proxy_ns_ = seconds * US_NS_PER_SECOND;
    }
}

bool us_proxy_expected(const us_socket_context_t *context, const sockaddr_storage *peer) {
    if (!context->proxy_trusted_) {
        return false;
    }
    us_socket_t address{};
    us_socket_set_address(&address, peer);
    return us_networks_contain(context->proxy_trusted_, address.ip, address.ip_length);
}

// Returns the descriptor.
static int release(us_loop_internal_t *internal, us_proxied_t *p) {
    const int fd = p->fd;
    p->fd = -1;
    internal->proxied.remove(p);
    p->listener->s.context->num_proxied--;
    us_free_after_iteration(internal, p);
    return fd;
}

static void drop(us_loop_internal_t *internal, us_proxied_t *p) {
    us_epoll_remove(internal, p->fd);
    us_sys_close(release(internal, p));
}

bool us_proxy_await(us_listen_socket_t *listener, int fd, const sockaddr_storage *peer) {
    us_loop_t *loop = listener->s.context->loop;
    us_proxied_t *p = (us_proxied_t *) malloc(sizeof(us_proxied_t));
    if (!p) {
        return false;
    }
    if (us_epoll_set(loop, EPOLL_CTL_ADD, fd, EPOLLIN, p, US_KIND_PROXIED) != 0) {
        free(p);
        return false;
    }
    p->listener = listener;
    p->since_ns = us_sys_now_ns();
    p->peer = *peer;
    p->fd = fd;
    p->length = 0;
    loop->internal_->proxied.append(p);
    listener->s.context->num_proxied++;
    return true;
}

// The header is read: the bytes behind it, still in the kernel, are for the socket and its transport.
static void become_socket(us_loop_t *loop, us_proxied_t *p, const us_proxy_header_t *header) {
    us_listen_socket_t *listener = p->listener;
    us_epoll_remove(loop->internal_, p->fd);
    const int fd = release(loop->internal_, p);
    us_socket_t *s = us_socket_new(listener->s.context, fd, (unsigned int) listener->socket_ext_size);
    if (!s) {
        us_sys_close(fd);
        return;
    }
    us_socket_set_address(s, &p->peer);
    s->proxied_unknown = !header->has_address;
    if (header->has_address) {
        memcpy(s->ip, header->ip, header->ip_length);
        s->ip_length = header->ip_length;
        s->remote_port = header->port;
    }
    us_contain(loop, s, [s] { us_socket_open(s); });
}

void us_proxied_event(us_loop_t *loop, us_proxied_t *p) {
    if (p->fd < 0) {
        return;
    }
    for (;;) {
        const ssize_t seen = us_sys_recv(p->fd, p->bytes + p->length, US_PROXY_MAX - p->length, MSG_PEEK);
        if (seen < 0 && errno == EAGAIN) {
            return;
        }
        us_proxy_header_t header;
        const int whole = seen > 0 ? us_proxy_parse(p->bytes, p->length + (size_t) seen, &header) : -1;
        const size_t wanted = whole ? (size_t) whole - p->length : (size_t) seen;
        const ssize_t n = whole < 0 ? -1 : us_sys_recv(p->fd, p->bytes + p->length, wanted, 0);
        if (n <= 0) {
            drop(loop->internal_, p);
            return;
        }
        p->length += (uint32_t) n;
        if (whole && p->length == (uint32_t) whole) {
            become_socket(loop, p, &header);
            return;
        }
    }
}

uint64_t us_proxied_next(const us_loop_internal_t *internal) {
    const us_proxied_t *oldest = internal->proxied.head;
    return oldest ? oldest->since_ns + oldest->listener->s.context->proxy_ns_ : 0;
}

void us_proxied_expire(us_loop_internal_t *internal) {
    while (internal->proxied.head && us_proxied_next(internal) <= internal->now_ns) {
        drop(internal, internal->proxied.head);
    }
}

void us_proxied_close_for(us_listen_socket_t *listener) {
    us_loop_internal_t *internal = listener->s.context->loop->internal_;
    for (us_proxied_t *p = internal->proxied.head; p;) {
        us_proxied_t *next = p->next;
        if (p->listener == listener) {
            drop(internal, p);
        }
        p = next;
    }
}

void us_proxied_free_all(us_loop_internal_t *internal) {
    while (internal->proxied.head) {
        us_sys_close(release(internal, internal->proxied.head));
    }
}
