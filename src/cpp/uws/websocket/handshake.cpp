#include "uws/websocket/handshake.h"

#include <algorithm>

namespace uwserve {

namespace {

// Calls f for each element of the comma-separated lists in all fields of this name.
template <typename F>
void for_each_element_of(const HttpHead &head, std::string_view name, F f) {
    for (const HttpField &field : head.fields) {
        if (field.name == name) for_each_element(field.value, f);
    }
}

bool has_token(const HttpHead &head, std::string_view name, std::string_view wanted) {
    bool found = false;
    for_each_element_of(head, name, [&](std::string_view token) { found |= equals_ignoring_case(token, wanted); });
    return found;
}

bool is_base64(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

// Whether it is the base64 form of 16 bytes.
bool is_key(std::string_view key) {
    return key.size() == 24 && key.ends_with("==") && std::all_of(key.begin(), key.end() - 2, is_base64);
}

}  // namespace

bool asks_for_websocket(const HttpHead &head) { return has_token(head, "upgrade", "websocket"); }

Handshake read_handshake(const HttpHead &head) {
    Handshake handshake;
    int keys = 0, versions = 0;
    handshake.key = head.field("sec-websocket-key", &keys);
    std::string_view version = head.field("sec-websocket-version", &versions);
    if (head.method != "GET" || head.is_http10 || head.content_length || !has_token(head, "upgrade", "websocket") ||
        !has_token(head, "connection", "upgrade") || keys != 1 || !is_key(handshake.key)) {
        return handshake;
    }
    if (versions != 1 || version != "13") {
        handshake.verdict = Handshake::Verdict::kWrongVersion;
        return handshake;
    }
    bool valid = true;
    auto &names = handshake.protocols;
    // RFC 6455 4.1: each is a token, and none is repeated.
    for_each_element_of(head, "sec-websocket-protocol", [&](std::string_view token) {
        valid = valid && is_token(token) && names.size() < kMaxProtocols && !std::ranges::count(names, token);
        if (valid) names.push_back(token);
    });
    if (valid) handshake.verdict = Handshake::Verdict::kAcceptable;
    return handshake;
}

}  // namespace uwserve
