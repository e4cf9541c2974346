// The client of a request that came through proxies: X-Forwarded-For, or Forwarded (RFC 7239).
//
// A client can write anything into these fields, so only addresses that a trusted proxy has added count: the walk starts
// at the peer itself and goes from the right, over every address of a trusted proxy, to the first other address (defect
// H15).
#pragma once

#include <cstring>
#include <vector>

#include "uws/http/head.h"
#include "usockets/proxy/networks.h"

struct us_socket_t;

namespace uwserve {

struct ClientAddress {
    uint8_t ip[16] = {};
    uint8_t ip_length = 0;  // 4, 16, or 0: a unix socket
    uint16_t port = 0;  // 0: the field has none
    bool is_unknown = false;  // a PROXY header without a client address: ip is the proxy's

    bool operator==(const ClientAddress &other) const {  // the port is ignored
        return ip_length == other.ip_length && memcmp(ip, other.ip, ip_length) == 0;
    }
};

// The field that the proxies set. There is never more than one: proxies overwrite or extend it, and pass others on
// unchanged.
enum class ForwardedField { kNone, kXForwardedFor, kForwarded };

using Network = us_network_t;

class TrustedProxies {
  public:
    TrustedProxies() = default;
    TrustedProxies(std::vector<Network> networks, bool local, ForwardedField field)
        : networks_(std::move(networks)), local_(local), field_(field) {}

    us_networks_t view() const { return {networks_.data(), networks_.size(), local_}; }
    // The peer's own address, or that of the connection's PROXY header.
    static ClientAddress peer_of(const us_socket_t *peer);
    // The client of a request. It is the peer if that is no trusted proxy, or if its field is missing or malformed. Loop
    // thread only.
    ClientAddress client_of(const us_socket_t *peer, const HttpHead &head) const;

  private:
    bool trusts(const ClientAddress &address) const;

    std::vector<Network> networks_;
    bool local_ = false;
    ForwardedField field_ = ForwardedField::kNone;
};

}  // namespace uwserve
