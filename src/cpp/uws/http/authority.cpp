#include "uws/http/authority.h"

#include <arpa/inet.h>

#include <cstring>

namespace uwserve {

namespace {

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// RFC 3986 3.2.2: reg-name, of which IPv4 addresses are a part.
bool is_name(std::string_view name) {
    for (size_t i = 0; i < name.size(); i++) {
        char c = name[i];
        if (c == '%') {
            if (i + 2 >= name.size() || !is_hex(name[i + 1]) || !is_hex(name[i + 2])) return false;
            i += 2;
            continue;
        }
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == 0 || !strchr("-._~!$&'()*+,;=", c))) return false;
    }
    return !name.empty();
}

bool is_ipv6(std::string_view inside) {
    char text[INET6_ADDRSTRLEN];
    if (inside.empty() || inside.size() >= sizeof(text) || inside.find('\0') != std::string_view::npos) return false;
    memcpy(text, inside.data(), inside.size());
    text[inside.size()] = 0;
    in6_addr address;
    return inet_pton(AF_INET6, text, &address) == 1;
}

bool is_port(std::string_view port) {
    unsigned value = 0;
    for (char c : port) {
        if (c < '0' || c > '9') return false;
        value = value * 10 + static_cast<unsigned>(c - '0');
        if (value > 65535) return false;
    }
    return true;  // an empty one is valid: the scheme's
}

}  // namespace

bool is_authority(std::string_view text) {
    if (!text.empty() && text.front() == '[') {
        size_t end = text.find(']');
        if (end == std::string_view::npos || !is_ipv6(text.substr(1, end - 1))) return false;
        text.remove_prefix(end + 1);
        return text.empty() || (text.front() == ':' && is_port(text.substr(1)));
    }
    size_t colon = text.find(':');
    if (!is_name(text.substr(0, colon))) return false;
    return colon == std::string_view::npos || is_port(text.substr(colon + 1));
}

}  // namespace uwserve
