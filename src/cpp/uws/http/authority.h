// The authority of a request: uri-host and port, as in Host and in absolute-form targets (RFC 9110 sections 4.2 and
// 7.2, RFC 3986 section 3.2). Pure functions over bytes.
#pragma once

#include <cstdint>
#include <string_view>

namespace uwserve {

// host [":" port]: a registered name, an IPv4 address, or an IPv6 address in brackets; no user information, no zone, no
// empty host before a port, a port of at most 65535.
bool is_authority(std::string_view text);

// The parts, as `Forwarded` has them, too. `family`: AF_INET or AF_INET6; `address` holds 4 or 16 bytes.
bool parse_ip(std::string_view text, int family, uint8_t *address);
bool parse_port(std::string_view text, uint16_t *port);

}  // namespace uwserve
