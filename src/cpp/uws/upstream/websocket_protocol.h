// Replaces WebSocketProtocol.h of uWebSockets, under its include guard: defects P1-P5, P7 and P11.
//
// It defines the names that the other headers of version 20.44 and of newer ones use. Frames to be sent are made here.
// Received bytes go to receive() (websocket/receive.h), so uWebSockets assembles no messages.
#pragma once

#ifdef UWS_WEBSOCKETPROTOCOL_H
#error "uwebsockets.h must be included before any header of uWebSockets"
#endif
#define UWS_WEBSOCKETPROTOCOL_H

#include <cstdint>
#include <cstring>
#include <string_view>

#include "uws/websocket/utf8.h"
#include "uws/websocket/receive.h"

namespace uWS {

inline constexpr std::string_view ERR_TOO_BIG_MESSAGE = uwserve::kTooBig.text;
inline constexpr std::string_view ERR_WEBSOCKET_TIMEOUT = "WebSocket timed out from inactivity";
inline constexpr std::string_view ERR_INVALID_TEXT = uwserve::kBadText.text;
inline constexpr std::string_view ERR_TOO_BIG_MESSAGE_INFLATION = uwserve::kTooBigInflated.text;
inline constexpr std::string_view ERR_INVALID_CLOSE_PAYLOAD = uwserve::kBadCloseCode.text;
inline constexpr std::string_view ERR_PROTOCOL = "Received a frame that breaks the protocol";
inline constexpr std::string_view ERR_TCP_FIN = "The connection ended without a Close frame";

enum OpCode : unsigned char { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

enum { CLIENT, SERVER };

template <bool isServer>
struct WebSocketState : uwserve::ReceiveState {};

namespace protocol {

enum { SND_CONTINUATION = 1, SND_NO_FIN = 2, SND_COMPRESSED = 64 };

inline bool isValidUtf8(unsigned char *text, size_t length) {
    return uwserve::is_utf8({reinterpret_cast<char *>(text), length});
}

struct CloseFrame {
    uint16_t code;
    char *message;
    size_t length;
};

inline CloseFrame parseClosePayload(char *payload, size_t length) {
    uint16_t code;
    std::string_view reason;
    if (uwserve::read_close_payload({payload, length}, &code, &reason)) return {1006, nullptr, 0};
    return {code, const_cast<char *>(reason.data()), reason.size()};
}

// Codes that must not be sent give an empty payload.
inline size_t formatClosePayload(char *to, uint16_t code, const char *reason, size_t length) {
    if (code == 0 || code == 1005 || code == 1006) return 0;
    to[0] = static_cast<char>(code >> 8);
    to[1] = static_cast<char>(code & 255);
    if (length) memcpy(to + 2, reason, length);
    return length + 2;
}

inline size_t messageFrameSize(size_t length) { return length + (length < 126 ? 2 : length <= UINT16_MAX ? 4 : 10); }

// A server's frame: the header of a payload of `announced` bytes, and its first `length` bytes. Returns the size.
template <bool isServer>
inline size_t formatMessage(char *to, const char *payload, size_t length, OpCode opcode, size_t announced,
                            bool compressed, bool fin) {
    static_assert(isServer, "there are no clients here");
    to[0] = static_cast<char>((fin ? 0x80 : 0) | (compressed && opcode != CONTINUATION ? SND_COMPRESSED : 0) | opcode);
    size_t header = 2;
    if (announced < 126) {
        to[1] = static_cast<char>(announced);
    } else {
        const bool is_long = announced > UINT16_MAX;
        to[1] = is_long ? 127 : 126;
        for (int shift = is_long ? 56 : 8; shift >= 0; shift -= 8) to[header++] = static_cast<char>(announced >> shift);
    }
    if (length) memcpy(to + header, payload, length);
    return header + length;
}

}  // namespace protocol

template <bool isServer, typename Impl>
struct WebSocketProtocol {
    // The parser writes nothing outside of the received bytes.
    static const int CONSUME_PRE_PADDING = 0;
    static const int CONSUME_POST_PADDING = 0;

    static void consume(char *data, unsigned int length, WebSocketState<isServer> *state, void *socket) {
        static_assert(isServer, "there are no clients here");
        uwserve::receive(static_cast<us_socket_t *>(socket), *state, data, length);
    }
};

}  // namespace uWS
