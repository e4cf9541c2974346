// proxy/networks.h - a set of IP networks, and whether an address is in it. Plain data: whoever fills it owns it.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct us_network_t {
    uint8_t address[16];
    uint8_t length;  // 4 or 16
    uint8_t prefix;  // bits that count
};

struct us_networks_t {
    const us_network_t *list;
    size_t count;
    bool local;  // peers on unix sockets, which have no address, are in the set
};

// `length` is that of us_socket_t::ip: 4, 16, or 0 for a unix socket. An IPv4 address that a dual-stack socket shows as
// ::ffff:a.b.c.d is looked up as IPv4.
bool us_networks_contain(const us_networks_t *networks, const uint8_t *address, size_t length);
