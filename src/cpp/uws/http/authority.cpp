#include "uws/http/authority.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace uwserve {

namespace {

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// RFC 3986 3.2.2: reg-name, which includes IPv4 addresses.
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

}  // namespace

bool parse_ip(std::string_view text, int family, uint8_t *address) {
    char copy[INET6_ADDRSTRLEN];
    if (text.empty() || text.size() >= sizeof(copy) || text.find('\0') != std::string_view::npos) return false;
    memcpy(copy, text.data(), text.size());
    copy[text.size()] = 0;
    return inet_pton(family, copy, address) == 1;
}

bool parse_port(std::string_view text, uint16_t *port) {
    const char *end = text.data() + text.size();
    auto [parsed, error] = std::from_chars(text.data(), end, *port);
    return error == std::errc() && parsed == end;
}

bool is_authority(std::string_view text) {
    uint8_t address[16];
    // An empty port is that of the scheme.
    auto is_port = [](std::string_view port) {
        uint16_t number;
        return port.empty() || parse_port(port, &number);
    };
    if (!text.empty() && text.front() == '[') {
        size_t end = text.find(']');
        if (end == std::string_view::npos || !parse_ip(text.substr(1, end - 1), AF_INET6, address)) return false;
        text.remove_prefix(end + 1);
        return text.empty() || (text.front() == ':' && is_port(text.substr(1)));
    }
    size_t colon = text.find(':');
    if (!is_name(text.substr(0, colon))) return false;
    return colon == std::string_view::npos || is_port(text.substr(colon + 1));
}

}  // namespace uwserve
