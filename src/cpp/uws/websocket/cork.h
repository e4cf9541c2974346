// Corks a socket during a callback, so that everything sent in it leaves with one system call. Loop thread only.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

// uWebSockets' cork(). If memory runs out in it, nothing stays corked, because the next socket would send the bytes.
// The connection ends, because a part of them may be sent.
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

// Called after the callback: sends FIN for a socket that was closed inside a cork that uWebSockets does not check
// (defect S6). If an outer caller has corked the socket, that caller sends FIN, behind the corked bytes.
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
