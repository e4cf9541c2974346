// Writes a message: framed into uWebSockets' cork buffer if it fits there, else to the kernel without a copy.
//
// uWebSockets copies a message that does not fit into memory of the connection before it asks the kernel to take it,
// also for every subscriber of a topic, and for each send of one socket's handler to other sockets. Here one system
// call takes the corked bytes, the header and the payload, and only the bytes that the kernel does not take are copied.
// Loop thread only; calls no user code.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

constexpr size_t kLongestHeader = 10;  // of a server's frame (RFC 6455 5.2)
// A payload of up to this size is copied behind its header, which costs less than a second part for the kernel.
constexpr size_t kCopied = 512;

inline ContextData *context_data(Socket *ws) {
    return static_cast<ContextData *>(us_socket_context_ext(0, raw(ws)->context));
}

// Whether uWebSockets' cork buffer has room for a message, and is this socket's or free.
inline bool fits_cork(us_socket_t *s, size_t size) {
    uWS::LoopData *loop = loop_data(s->context->loop);
    return (!loop->corkedSocket || loop->corkedSocket == s) &&
           loop->corkOffset + size + kLongestHeader < uWS::LoopData::CORK_BUFFER_SIZE;
}

// Sends the messages that topics have queued for the socket. Out of line, so that the compiler keeps the same code of
// uWebSockets' send() in line.
[[gnu::noinline]] void send_queued(Socket *ws);

// Writes a message that can't be corked.
[[gnu::noinline]] Socket::SendStatus write_uncorked(Socket *ws, std::string_view message, uWS::OpCode opcode,
                                                    bool compressed);

// `compressed`: `message` is compressed already.
inline Socket::SendStatus write_message(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compressed) {
    if (fits_cork(raw(ws), message.size())) [[likely]]
        return ws->send(message, opcode, compressed);
    return write_uncorked(ws, message, opcode, compressed);
}

}  // namespace uwserve
