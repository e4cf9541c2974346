// What the layer above gets to know of its WebSockets.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

enum class Content : uint8_t {
    kBinary,
    kText,  // valid UTF-8
    kAscii,  // text of nothing but ASCII
};

// All on the loop thread; on_close exactly once per on_open.
struct WsHandler {
    virtual ~WsHandler() = default;
    virtual void on_open(Socket *ws) = 0;
    // The view is good until the call returns.
    virtual void on_message(Socket *ws, std::string_view message, Content content) = 0;
    // What was received behind the message or control frame during which the handler paused the socket for US_PAUSE_QUEUE.
    // It is given back through us_socket_deliver() before the socket is read again; the view is good
    // during the call only.
    virtual void on_unparsed(Socket *, std::string_view) {}
    virtual void on_drain(Socket *ws) = 0;
    virtual void on_ping(Socket *ws, std::string_view data) = 0;  // the pong was sent
    virtual void on_pong(Socket *ws, std::string_view data) = 0;
    virtual void on_expire(Socket *ws) = 0;  // it has reached its lifetime, and is to be closed
    // Around work of the loop's thread that takes long and calls nothing here: other threads of the layer above may run
    // meanwhile. False: they may not, and long_work_ends() is not called.
    virtual bool long_work_begins() { return false; }
    virtual void long_work_ends() {}
    // The native socket may live on to flush its backlog. `reason` is valid UTF-8.
    virtual void on_close(Socket *ws, int code, std::string_view reason) = 0;
};

}  // namespace uwserve
