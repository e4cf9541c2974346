// proxy/parse.h - the header of the PROXY protocol, versions 1 and 2. A pure function over bytes.

#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    US_PROXY_V1_MAX = 107,  // a line with its CRLF
    US_PROXY_MAX = 4096,  // a version 2 header with its TLVs; real ones have some hundred bytes
};

struct us_proxy_header_t {
    bool has_address;  // else the connection's own address is used: LOCAL, UNKNOWN, UNSPEC, a unix socket, a datagram
    uint8_t ip[16];
    uint8_t ip_length;  // 4 or 16
    uint16_t port;
};

// Parses the header at the start of `data`. Returns its length when it is complete and valid, 0 when more bytes are
// needed, -1 as soon as the bytes cannot become a valid header.
int us_proxy_parse(const uint8_t *data, size_t length, us_proxy_header_t *header);
