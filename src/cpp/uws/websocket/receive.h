// The receive path of a WebSocket: from the bytes of a read to the handlers.
//
// ReceiveState is a part of uWebSockets' WebSocketData and lives from the upgrade to the socket's on_close, which never
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

// Parses the bytes of one read, and overwrites them. The WebSocket must be open and not shutting down.
void receive(us_socket_t *s, ReceiveState &state, char *data, size_t size);

// A read of this size may have several messages whose replies do not fit into uWebSockets' cork buffer, so bytes that
// are sent to the socket meanwhile are held (us_socket_hold()).
constexpr size_t kSeveralLarge = 32 * 1024;

}  // namespace uwserve
