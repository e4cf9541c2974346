// The receive path of a WebSocket: from the bytes of a read to the handlers.
//
// ReceiveState lies inside uWebSockets' WebSocketData and lives from the upgrade to the socket's on_close, which never
// runs while a handler is on the stack. Loop thread only.
#pragma once

#include <libusockets.h>

#include "uws/websocket/message_buffer.h"
#include "uws/websocket/frame_parser.h"

namespace uwserve {

struct ReceiveState {
    FrameState frames;
    MessageBuffer message_buffer;
};

// The bytes of one read, for a WebSocket that is open and not shutting down. They are overwritten.
void receive(us_socket_t *s, ReceiveState &state, char *data, size_t size);

// A read of so much may have brought several messages whose replies do not fit into uWebSockets' cork buffer: what is
// sent to the socket meanwhile is held (us_socket_hold()).
constexpr size_t kSeveralLarge = 32 * 1024;

}  // namespace uwserve
