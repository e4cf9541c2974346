// proxy/networks.h - a set of IP networks, and whether an address is in it. Plain data that the caller owns.

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

// `length` is as us_socket_t::ip_length: 4, 16, or 0 for a unix socket. An IPv4-mapped address (::ffff:a.b.c.d), as
// dual-stack sockets report it, is looked up as IPv4.
bool us_networks_contain(const us_networks_t *networks, const uint8_t *address, size_t length);
