// What is sent inside of a callback leaves with one system call after it. Loop thread only.
#pragma once

#include "uws/websocket/send.h"

namespace uwserve {

// After the callback: FIN for a socket that was closed inside a cork that uWebSockets does not look after (defect S6).
// If a caller further out has corked the socket, that caller sends FIN, after what is corked.
inline void after_cork(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (loop_data(s->context->loop)->corkedSocket == s) return;
    if (!s->closed && is_shutting_down(s) && buffered_of(s) == 0) us_socket_shutdown(0, s);
}

template <typename F>
void corked(Socket *ws, F act) {
    cork_while(ws, act);
    after_cork(ws);
}

}  // namespace uwserve
