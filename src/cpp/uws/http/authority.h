// The authority of a request: uri-host and port as Host and absolute-form targets carry them (RFC 9110 sections 4.2 and
// 7.2, RFC 3986 section 3.2). A pure function over bytes.
#pragma once

#include <string_view>

namespace uwserve {

// host [":" port]: a registered name, an IPv4 address, or an IPv6 address in brackets; no user information, no zone, no
// empty host before a port, a port of at most 65535.
bool is_authority(std::string_view text);

}  // namespace uwserve
