#include "uws/http/forwarded.h"

#include <arpa/inet.h>

#include <cstring>

#include "libusockets.h"

namespace uwserve {

namespace {

bool parse_ip(std::string_view text, ClientAddress &address) {
    char copy[INET6_ADDRSTRLEN];
    if (text.empty() || text.size() >= sizeof(copy) || text.find('\0') != std::string_view::npos) return false;
    memcpy(copy, text.data(), text.size());
    copy[text.size()] = 0;
    bool is_v6 = text.find(':') != std::string_view::npos;
    address.ip_length = is_v6 ? 16 : 4;
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, copy, address.ip) == 1;
}

bool parse_port(std::string_view text, uint16_t &port) {
    unsigned value = 0;
    if (text.empty() || text.size() > 5) return false;
    for (char c : text) {
        if (c < '0' || c > '9') return false;
        value = value * 10 + static_cast<unsigned>(c - '0');
    }
    port = static_cast<uint16_t>(value);
    return value <= 65535;
}

void trim(std::string_view &text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
}

// The length of what stands before the next `stop` outside quoted strings; npos when a quoted string does not end.
size_t find_unquoted(std::string_view text, char stop) {
    bool quoted = false;
    for (size_t i = 0; i < text.size(); i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && text[i] == stop) {
            return i;
        }
    }
    return quoted ? std::string_view::npos : text.size();
}

// RFC 7239 4: forwarded-element. An address needs no quoted-pair, so a value with one is as good as none.
std::string_view node_of(std::string_view element) {
    std::string_view node;
    while (!element.empty()) {
        size_t end = find_unquoted(element, ';');
        std::string_view pair = element.substr(0, end);
        element.remove_prefix(end == element.size() ? end : end + 1);
        trim(pair);
        size_t equals = pair.find('=');
        if (equals == std::string_view::npos || !is_token(pair.substr(0, equals))) return {};
        if (!equals_ignoring_case(pair.substr(0, equals), "for")) continue;
        if (!node.empty()) return {};  // each parameter at most once
        node = pair.substr(equals + 1);
        if (node.size() >= 2 && node.front() == '"' && node.back() == '"') {
            node = node.substr(1, node.size() - 2);
        } else if (!is_token(node)) {
            return {};
        }
    }
    return node;
}

}  // namespace

std::optional<ClientAddress> parse_node(std::string_view text) {
    ClientAddress address;
    if (!text.empty() && text.front() == '[') {
        size_t end = text.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        std::string_view after = text.substr(end + 1);
        if (!after.empty() && (after.front() != ':' || !parse_port(after.substr(1), address.port))) return std::nullopt;
        if (!parse_ip(text.substr(1, end - 1), address) || address.ip_length != 16) return std::nullopt;
        return address;
    }
    size_t colon = text.find(':');
    if (colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos) {
        if (!parse_port(text.substr(colon + 1), address.port)) return std::nullopt;
        text = text.substr(0, colon);
    }
    return parse_ip(text, address) ? std::optional(address) : std::nullopt;
}

std::vector<std::string_view> forwarded_nodes(std::string_view value) {
    std::vector<std::string_view> nodes;
    while (true) {
        size_t end = find_unquoted(value, ',');
        if (end == std::string_view::npos) {  // an open quoted string swallows everything to its right
            nodes.emplace_back();
            return nodes;
        }
        std::string_view element = value.substr(0, end);
        trim(element);
        if (!element.empty()) nodes.push_back(node_of(element));
        if (end == value.size()) return nodes;
        value.remove_prefix(end + 1);
    }
}

bool TrustedProxies::trusts(const ClientAddress &address) const {
    us_networks_t networks = view();
    return us_networks_contain(&networks, address.ip, address.ip_length);
}

ClientAddress TrustedProxies::peer_of(const us_socket_t *peer) {
    ClientAddress client;
    memcpy(client.ip, peer->ip, sizeof(client.ip));
    client.ip_length = peer->ip_length;
    client.port = peer->remote_port;
    client.is_unknown = peer->proxied_unknown;
    return client;
}

ClientAddress TrustedProxies::client_of(const us_socket_t *peer, const HttpHead &head) const {
    ClientAddress client = peer_of(peer);
    if (field_ == ForwardedField::kNone || (networks_.empty() && !local_)) return client;
    // A proxy that relays bytes and could not name its client: the fields are that client's own.
    if (peer->proxied_unknown || !trusts(client)) return client;

    // Several fields are one list, in order of arrival (RFC 9110 5.3).
    bool is_x = field_ == ForwardedField::kXForwardedFor;
    std::vector<std::string_view> nodes;
    for (const HttpField &field : head.fields) {
        if (field.name != (is_x ? "x-forwarded-for" : "forwarded")) continue;
        if (is_x) {
            for_each_element(field.value, [&](std::string_view node) { nodes.push_back(node); });
        } else {
            for (std::string_view node : forwarded_nodes(field.value)) nodes.push_back(node);
        }
    }
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
        std::optional<ClientAddress> address = parse_node(*node);
        if (!address) return client;
        client = *address;
        if (!trusts(client)) return client;
    }
    return client;
}

}  // namespace uwserve
