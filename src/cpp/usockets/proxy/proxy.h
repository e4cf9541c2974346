// proxy/proxy.h - the PROXY protocol, versions 1 and 2, as a receiver (proxy-protocol.txt of HAProxy, section 2).
//
// A context can expect a PROXY header on connections from certain peers. Such a connection becomes a socket, and gets
// on_open, only when its header is complete; the socket then has the address that the header names. Connections from
// other peers are not parsed: there, a header is data like any other (and no HTTP request).
//
// Loop thread only.

#pragma once

#include "usockets/libusockets.h"
#include "usockets/proxy/networks.h"

struct sockaddr_storage;
struct us_proxied_t;

// New connections from `trusted` must begin with a header within `seconds`, or are closed. NULL: no header is expected.
// `trusted` must live until the context is freed or the next call.
void us_socket_context_proxy(us_socket_context_t *context, const us_networks_t *trusted, unsigned int seconds);

// ---- for the socket layer ----

bool us_proxy_expected(const us_socket_context_t *context, const sockaddr_storage *peer);
bool us_proxy_await(us_listen_socket_t *listener, int fd, const sockaddr_storage *peer);  // takes over fd on success
void us_proxied_event(us_loop_t *loop, us_proxied_t *proxied);
uint64_t us_proxied_next(const us_loop_internal_t *internal);  // the earliest deadline, 0 = none
void us_proxied_expire(us_loop_internal_t *internal);
void us_proxied_close_for(us_listen_socket_t *listener);
void us_proxied_free_all(us_loop_internal_t *internal);  // leaves epoll alone, which the parent of a fork uses
