// The events of WebSockets, for the layer above.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

enum class Content : uint8_t {
    kBinary,
    kText,  // valid UTF-8
    kAscii,  // text, all ASCII
};

// All on the loop thread; on_close exactly once per on_open.
struct WsHandler {
    virtual ~WsHandler() = default;
    virtual void on_open(Socket *ws) = 0;
    // The view is valid until the call returns.
    virtual void on_message(Socket *ws, std::string_view message, Content content) = 0;
    // The bytes received behind the message or control frame in whose handler the socket was paused for US_PAUSE_QUEUE.
    // They must be given back through us_socket_deliver() before the socket is read again. The view is valid until the
    // call returns.
    virtual void on_unparsed(Socket *, std::string_view) {}
    virtual void on_drain(Socket *ws) = 0;
    virtual void on_ping(Socket *ws, std::string_view data) = 0;  // the pong was sent
    virtual void on_pong(Socket *ws, std::string_view data) = 0;
    virtual void on_expire(Socket *ws) = 0;  // the socket has reached its lifetime, and must be closed
    // Called around long work of the loop's thread that calls no handler: other threads of the layer above may run
    // meanwhile. False: they may not, and long_work_ends() is not called.
    virtual bool long_work_begins() { return false; }
    virtual void long_work_ends() {}
    // The native socket may live on to flush its backlog. `reason` is valid UTF-8.
    virtual void on_close(Socket *ws, int code, std::string_view reason) = 0;
};

}  // namespace uwserve
