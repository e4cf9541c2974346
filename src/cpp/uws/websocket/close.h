// All ends of a WebSocket but the idle timeout: the closing handshake (RFC 6455 7.1.2), violations, and the abrupt end.
// When the layer above has begun one of them, it gets no further event of the socket. Loop thread only; calls no user
// code but the close handler.
#pragma once

#include "uws/websocket/frame_parser.h"
#include "uws/upstream/uwebsockets.h"

namespace uwserve {

// Sends the Close frame behind all that was accepted for sending, and FIN behind it. The peer gets a deadline.
void start_close(Socket *ws, int code, std::string_view reason);
// The same without a deadline, and the answer to the peer's Close frame (RFC 6455 5.5.1). Calls the close handler.
void send_close(Socket *ws, int code, std::string_view reason);
// For WsHandler::on_close: if the peer's Close frame was answered, the rest of the handshake gets a deadline.
void finish_close(Socket *ws);
// Fails the connection (RFC 6455 7.1.7), as uWebSockets does not (defect P6): sends a Close frame if the kernel takes
// all that was accepted for sending, then FIN, and closes. After the current dispatch, the close handler gets the same
// code and text.
void fail_connection(us_socket_t *s, const Violation &violation);
// Sends what was accepted before, as far as the kernel takes it, and closes; the rest is lost.
void terminate(Socket *ws);
// Closes at once; unsent bytes are lost.
void close_at_once(Socket *ws);
// The same; the close handler gets code 1006 and `reason`.
void close_with_reason(us_socket_t *s, std::string_view reason);
// Replaces the deadline of a closing socket: `seconds` from now; 0: it has none.
void set_deadline(Socket *ws, unsigned seconds);

}  // namespace uwserve
