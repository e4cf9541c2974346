// proxy/proxy.h - the PROXY protocol, versions 1 and 2, as a receiver (proxy-protocol.txt of HAProxy, section 2).
//
// A context can be told that connections from certain peers begin with a PROXY header. Such a connection becomes a socket,
// and gets on_open, only when its header is complete; the socket then has the address that the header names. Connections
// from anybody else are not looked into: there, a header is data like any other (and no HTTP request).
//
// Loop thread only.

#pragma once

#include "usockets/proxy/networks.h"

struct us_socket_context_t;

enum {
    US_PROXY_V1_MAX = 107,  // a line with its CRLF
    US_PROXY_MAX = 4096,  // a version 2 header with its TLVs; real ones have some hundred bytes
};

struct us_proxy_header_t {
    bool has_address;  // else the connection's own one holds: LOCAL, UNKNOWN, UNSPEC, a unix socket, a datagram
    uint8_t ip[16];
    uint8_t ip_length;  // 4 or 16
    uint16_t port;
};

// Reads the header at the start of `data`. The bytes it has, when it is complete and valid; 0 when more are needed; -1 as
// soon as the bytes can't become a valid header.
int us_proxy_parse(const uint8_t *data, size_t length, us_proxy_header_t *header);

// From now on, new connections from `trusted` must begin with a header within `seconds`, or are closed. NULL: none must.
// `trusted` has to live until the context is freed or another call.
void us_socket_context_proxy(us_socket_context_t *context, const us_networks_t *trusted, unsigned int seconds);
