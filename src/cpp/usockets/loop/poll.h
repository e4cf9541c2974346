// loop/poll.h - epoll: what is registered, and what an event means for a socket.

#pragma once

#include "usockets/loop/state.h"

// The type of the block that epoll_event.data points to, in the low bits (blocks are 16-aligned).
enum us_kind_t : uintptr_t {
    US_KIND_SOCKET,
    US_KIND_LISTENER,
    US_KIND_WAKE,
    US_KIND_TIMER,
    US_KIND_WATCH,
    US_KIND_DRAINING,
    US_KIND_PROXIED
};

constexpr uint32_t US_READ_INTEREST = EPOLLIN | EPOLLRDHUP;

int us_epoll_set(us_loop_t *loop, int operation, int fd, uint32_t events, void *block, us_kind_t kind);
int us_epoll_remove(us_loop_internal_t *internal, int fd);
void us_socket_update_interest(us_socket_t *s);
void us_socket_event(us_socket_t *s, uint32_t events);
