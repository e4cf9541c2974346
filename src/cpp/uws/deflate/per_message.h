// permessage-deflate on open WebSockets (RFC 7692): the only place where messages are compressed and inflated.
//
// Order. A compressor with context must see messages in the order in which they are sent. So the messages that topics
// have queued for the socket are sent first, a message that will be dropped is not compressed, and nothing happens
// between compressing and framing. Loop thread only; calls no user code.
#pragma once

#include "uws/websocket/send.h"

namespace uwserve {

class FanOut;

// Sets up what the handshake has agreed on. Called before the socket's open handler.
void enable_compression(Socket *ws, Codecs &codecs, const Negotiated &agreed);

// Whether permessage-deflate was negotiated: RSV1 may be set on the first frame of a message.
bool may_compress(us_socket_t *ws);
// Inflates a whole message of a client. `out` is valid until the next call on this loop, or the end of the iteration.
Inflated inflate_message(us_socket_t *ws, std::string_view compressed, size_t limit, std::string_view *out);

[[gnu::cold]] Socket::SendStatus send_compressed(Socket *ws, uWS::DeflationStream &stream, std::string_view message,
                                                 uWS::OpCode opcode, FanOut *fan_out, uint32_t sequence);

// Sends a message, compressed if `compress` is set and the connection can. Every message goes through here. With
// `fan_out`, it is message number `sequence` of a fan-out to several sockets.
inline Socket::SendStatus send_message(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compress,
                                       FanOut *fan_out = nullptr, uint32_t sequence = 0) {
    uWS::DeflationStream *stream = compress ? WebSocketAccess::deflation(websocket_data(raw(ws))) : nullptr;
    if (!stream || !stream->settings.send_window || message.empty()) [[likely]]
        return write_message(ws, message, opcode, false);
    return send_compressed(ws, *stream, message, opcode, fan_out, sequence);
}

// The same, for one of several sockets: when memory runs out, only its connection ends, as a part of a frame may be
// sent.
[[gnu::always_inline]] inline Socket::SendStatus send_or_end(Socket *ws, std::string_view message, uWS::OpCode opcode,
                                                             bool compress, FanOut &fan_out, uint32_t sequence) {
    try {
        return send_message(ws, message, opcode, compress, &fan_out, sequence);
    } catch (const std::bad_alloc &) {
        drop_corked(raw(ws));
        us_socket_shutdown_read(0, raw(ws));
        return Socket::DROPPED;
    }
}

}  // namespace uwserve
