// A message on its way to the kernel: framed into uWebSockets' cork buffer if it fits there, else sent from where it
// lies.
//
// uWebSockets copies what does not fit into memory of the connection before the kernel is asked to take it, and does so
// for every subscriber of a topic, and for whatever one socket's handler sends to other sockets. Here one system call
// takes the header, with what was corked before it, and the payload; only what the kernel leaves is copied. Loop thread
// only; calls no user code.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

constexpr size_t kLongestHeader = 10;  // of a server's frame (RFC 6455 5.2)
// A payload up to this size is copied behind its header: less work than a second part for the kernel.
constexpr size_t kCopied = 512;

// Whether uWebSockets' cork buffer has room for a message, and belongs to this socket, or to none.
inline bool fits_cork(us_socket_t *s, size_t size) {
    uWS::LoopData *loop = loop_data(s->context->loop);
    return (!loop->corkedSocket || loop->corkedSocket == s) &&
           loop->corkOffset + size + kLongestHeader < uWS::LoopData::CORK_BUFFER_SIZE;
}

// What its topics hold for the socket goes out. Out of line, as uWebSockets' send() has the same in line, and should
// keep it.
[[gnu::noinline]] void send_queued(Socket *ws);

// The socket is subscribed to nothing any more. Needs no memory.
void leave_topics(Socket *ws);

// Before the connection ends: whatever was accepted for sending goes to the kernel, which is asked once more where it
// was full. True when it has taken everything, so that another frame may follow; false: the rest is for the caller to
// give up.
bool write_accepted(Socket *ws);
// uWebSockets' end(): the Close frame, and the close handler inside it. Without memory for the frame, the connection is
// cut.
void end_websocket(Socket *ws, int code, std::string_view reason);

// uWebSockets' cork(). When memory runs out in it, nothing stays corked (the next socket would find the bytes), and the
// connection ends: a part of them may be gone.
template <typename F>
void cork_while(Socket *ws, F act) {
    try {
        ws->cork(act);
    } catch (...) {
        us_socket_t *s = raw(ws);
        uWS::LoopData *data = loop_data(s->context->loop);
        drop_corked(s);
        if (data->corkedSocket == s) data->corkedSocket = nullptr;
        us_socket_shutdown_read(0, s);
        throw;
    }
}

// For what can't be corked.
[[gnu::noinline]] Socket::SendStatus write_uncorked(Socket *ws, std::string_view message, uWS::OpCode opcode,
                                                    bool compressed);

// `message` is compressed already if it is `compressed`.
inline Socket::SendStatus write_message(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compressed) {
    if (fits_cork(raw(ws), message.size())) [[likely]]
        return ws->send(message, opcode, compressed);
    return write_uncorked(ws, message, opcode, compressed);
}

}  // namespace uwserve
