#include "uws/websocket/handshake.h"

#include <algorithm>

namespace uwserve {

namespace {

bool has_token(const HttpHead &head, std::string_view name, std::string_view wanted) {
    bool found = false;
    for (const HttpField &field : head.fields) {
        if (field.name == name) {
            for_each_element(field.value,
                             [&](std::string_view token) { found |= equals_ignoring_case(token, wanted); });
        }
    }
    return found;
}

// 16 bytes in base64: 22 characters of the alphabet and "==".
bool is_key(std::string_view key) {
    if (key.size() != 24 || key.substr(22) != "==") return false;
    for (char c : key.substr(0, 22)) {
        bool alphabet =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
        if (!alphabet) return false;
    }
    return true;
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
    for (const HttpField &field : head.fields) {
        if (field.name == "sec-websocket-protocol") {
            for_each_element(field.value, [&](std::string_view token) {
                // RFC 6455 4.1: each a token, and none twice.
                auto &names = handshake.protocols;
                valid = valid && is_token(token) && names.size() < kMaxProtocols &&
                        std::find(names.begin(), names.end(), token) == names.end();
                if (valid) names.push_back(token);
            });
        }
    }
    if (valid) handshake.verdict = Handshake::Verdict::kAcceptable;
    return handshake;
}

}  // namespace uwserve
