// Reads an opening handshake, and checks it by RFC 6455 section 4.2.1. uWebSockets checks the length of the key only
// (defect H7).
#pragma once

#include "uws/http/head.h"

namespace uwserve {

constexpr size_t kMaxProtocols = 100;  // that a client may offer; each is compared with all before it

struct Handshake {
    enum class Verdict { kNotWebSocket, kWrongVersion, kAcceptable };
    Verdict verdict = Verdict::kNotWebSocket;
    std::string_view key;                     // 24 characters of base64; points into the head
    std::vector<std::string_view> protocols;  // offered subprotocols in the client's order
};

Handshake read_handshake(const HttpHead &head);
// Whether the client meant a handshake, valid or not: its Upgrade field names websocket.
bool asks_for_websocket(const HttpHead &head);

}  // namespace uwserve
