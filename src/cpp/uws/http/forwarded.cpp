#include "uws/http/forwarded.h"

#include <arpa/inet.h>

#include <cstring>
#include <optional>

#include "libusockets.h"
#include "uws/http/authority.h"

namespace uwserve {

namespace {

// The position of the next `stop` outside quoted strings, or the end; npos when a quoted string does not end.
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

// RFC 7239 4: forwarded-element. An address needs no quoted-pair, so a value with one is not an address.
std::string_view node_of(std::string_view element) {
    std::string_view node;
    while (!element.empty()) {
        size_t end = find_unquoted(element, ';');
        std::string_view pair = trimmed(element.substr(0, end));
        element.remove_prefix(end == element.size() ? end : end + 1);
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

// One address: IPv4 or IPv6, with or without a port, and with a port IPv6 is in brackets ("192.0.2.1", "192.0.2.1:80",
// "2001:db8::1", "[2001:db8::1]:80"). No names, no "unknown", no obfuscated identifiers.
std::optional<ClientAddress> parse_node(std::string_view text) {
    ClientAddress client;
    auto read_port = [&client](std::string_view port) { return port.size() <= 5 && parse_port(port, &client.port); };
    bool is_bracketed = text.starts_with('[');
    size_t colon = text.find(':');
    if (is_bracketed) {
        size_t end = text.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        std::string_view after = text.substr(end + 1);
        if (!after.empty() && (after.front() != ':' || !read_port(after.substr(1)))) return std::nullopt;
        text = text.substr(1, end - 1);
    } else if (colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos) {
        if (!read_port(text.substr(colon + 1))) return std::nullopt;
        text = text.substr(0, colon);
    }
    bool is_v6 = is_bracketed || text.find(':') != std::string_view::npos;
    client.ip_length = is_v6 ? 16 : 4;
    return parse_ip(text, is_v6 ? AF_INET6 : AF_INET, client.ip) ? std::optional(client) : std::nullopt;
}

// Appends the `for` nodes of a Forwarded field in order, unquoted; an empty one for an element that is malformed or has
// none.
void append_nodes(std::string_view value, std::vector<std::string_view> &nodes) {
    while (true) {
        size_t end = find_unquoted(value, ',');
        if (end == std::string_view::npos) {  // a quoted string without end includes all that follows
            nodes.emplace_back();
            return;
        }
        std::string_view element = trimmed(value.substr(0, end));
        if (!element.empty()) nodes.push_back(node_of(element));
        if (end == value.size()) return;
        value.remove_prefix(end + 1);
    }
}

}  // namespace

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
    // The peer is a proxy that relays bytes and could not name its client: the fields come from that client.
    if (peer->proxied_unknown || !trusts(client)) return client;

    // Several fields are one list, in order of arrival (RFC 9110 5.3).
    bool is_x = field_ == ForwardedField::kXForwardedFor;
    std::vector<std::string_view> nodes;
    for (const HttpField &field : head.fields) {
        if (field.name != (is_x ? "x-forwarded-for" : "forwarded")) continue;
        if (is_x) {
            for_each_element(field.value, [&](std::string_view node) { nodes.push_back(node); });
        } else {
            append_nodes(field.value, nodes);
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
