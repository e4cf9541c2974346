// The ends of a WebSocket that the layer above asks for: the closing handshake (RFC 6455 7.1.2), and the abrupt end.
// Once one of them has begun, that layer gets no event of the socket any more. Loop thread only; calls no user code.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

// The Close frame behind all that was accepted for sending, FIN behind it, and a deadline for the peer.
void start_close(Socket *ws, int code, std::string_view reason);
// In WsHandler::on_close: if the Close frame of the peer was answered, the rest of the handshake has a deadline.
void finish_close(Socket *ws);
// What was accepted before goes first, as far as the kernel takes it; the rest is lost.
void terminate(Socket *ws);
// At once, with everything that waits.
void close_at_once(Socket *ws);
// The end of a stop is the deadline of a socket that closes: `seconds` from now; 0: the socket has none of its own.
void set_deadline(Socket *ws, unsigned seconds);

}  // namespace uwserve
