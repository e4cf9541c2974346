// permessage-deflate on open WebSockets (RFC 7692): the only place where messages are compressed and decompressed.
//
// Order. A compressor with context must see messages in the order in which they reach the wire. So what a socket's topics
// hold for it is sent first, a message that is about to be dropped is not compressed, and between compressing and framing
// nothing else happens. Loop thread only; calls no user code.
#pragma once

#include "uws/websocket/send.h"

namespace uwserve {

class FanOut;

// Before the socket's open handler: what its handshake agreed on.
void enable_compression(Socket *ws, Codecs &codecs, const Negotiated &agreed);

// permessage-deflate was negotiated: RSV1 may be set on the first frame of a message.
bool may_compress(us_socket_t *ws);
// A whole message of a client. `out` is valid until the loop's next call, or the end of the iteration.
Inflated inflate_message(us_socket_t *ws, std::string_view compressed, size_t limit, std::string_view *out);

[[gnu::cold]] Socket::SendStatus send_compressed(Socket *ws, uWS::DeflationStream &stream, std::string_view message,
                                                 uWS::OpCode opcode, FanOut *fan_out, uint32_t sequence);

// Socket::send(), compressing when `compress` asks for it and the connection can. Every message goes through here. With
// `fan_out` it is message number `sequence` of a topic, which others get too.
inline Socket::SendStatus send_message(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compress,
                                       FanOut *fan_out = nullptr, uint32_t sequence = 0) {
    uWS::DeflationStream *stream = compress ? WebSocketAccess::deflation(websocket_data(raw(ws))) : nullptr;
    if (!stream || !stream->settings.send_window || message.empty()) [[likely]]
        return write_message(ws, message, opcode, false);
    return send_compressed(ws, *stream, message, opcode, fan_out, sequence);
}

}  // namespace uwserve
