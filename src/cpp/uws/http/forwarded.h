// Who a request comes from when proxies stand in between: X-Forwarded-For, or Forwarded (RFC 7239).
//
// A client can write anything into these fields, so only what a trusted proxy has added counts: the walk starts at the
// peer itself and goes from the right, over every address that is a trusted proxy's, to the first that is not (defect H15).
#pragma once

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "uws/http/head.h"
#include "usockets/proxy/networks.h"

struct us_socket_t;

namespace uwserve {

struct ClientAddress {
    uint8_t ip[16] = {};
    uint8_t ip_length = 0;  // 4, 16, or 0: a unix socket
    uint16_t port = 0;  // 0: a field does not tell
    bool is_unknown = false;  // a PROXY header without a client address: ip is the proxy's

    bool operator==(const ClientAddress &other) const {  // the port does not count
        return ip_length == other.ip_length && memcmp(ip, other.ip, ip_length) == 0;
    }
};

// Which field the proxies set. Never more than one: they overwrite or extend that one, and pass others on as they came.
enum class ForwardedField { kNone, kXForwardedFor, kForwarded };

using Network = us_network_t;

class TrustedProxies {
  public:
    TrustedProxies() = default;
    TrustedProxies(std::vector<Network> networks, bool local, ForwardedField field)
        : networks_(std::move(networks)), local_(local), field_(field) {}

    us_networks_t view() const { return {networks_.data(), networks_.size(), local_}; }
    // The peer's own address, as the connection's PROXY header has it.
    static ClientAddress peer_of(const us_socket_t *peer);
    // Loop thread only. The peer's own address when it is no trusted proxy, or when its field is missing or malformed.
    ClientAddress client_of(const us_socket_t *peer, const HttpHead &head) const;

  private:
    bool trusts(const ClientAddress &address) const;

    std::vector<Network> networks_;
    bool local_ = false;
    ForwardedField field_ = ForwardedField::kNone;
};

// One address: IPv4 or IPv6, with or without a port, IPv6 in brackets when there is one ("192.0.2.1", "192.0.2.1:80",
// "2001:db8::1", "[2001:db8::1]:80"). Nothing else: no names, no "unknown", no obfuscated identifiers.
std::optional<ClientAddress> parse_node(std::string_view text);

// The `for` nodes of a Forwarded field in order, unquoted; an empty one where an element has none or is malformed.
std::vector<std::string_view> forwarded_nodes(std::string_view value);

}  // namespace uwserve
