// Receives the events of WebSockets from the socket layer before uWebSockets does: data, timeouts (idle_timeout.h), the
// maximum lifetime, and the end of a connection, whose reason uWebSockets leaves empty (S12). Loop thread only; one per
// server.
#pragma once

#include <random>

#include "uws/http/connections.h"
#include "uws/websocket/backpressure.h"
#include "uws/websocket/handler.h"
#include "uws/websocket/idle_timeout.h"
#include "usockets/loop/timeout_wheel.h"

namespace uwserve {

class Lifecycle {
  public:
    void install(us_socket_context_t *ws_context, HttpConnections *connections, WsHandler *handler);
    static Lifecycle *of(us_socket_t *s) { return static_cast<Lifecycle *>(s->context->user); }
    WsHandler &handler() { return *handler_; }
    HttpConnections &connections() { return *connections_; }
    Limits &limits() { return connections_->limits(); }

    // Seconds after which on_expire is called, or up to a tenth earlier; 0 = never. Open sockets keep their age; it
    // counts from now on if the value was 0 before. A socket that is too old already expires within that tenth.
    void set_max_lifetime(unsigned seconds);
    void opened(us_socket_t *s);

    IdleTimeout idle_timeout;
    SpareMemoryPool spare_memory;  // for incoming messages

  private:
    static us_socket_t *on_data(us_socket_t *s, char *data, int length);
    static us_socket_t *on_long_timeout(us_socket_t *s);
    static us_socket_t *on_end(us_socket_t *s);
    static us_socket_t *on_close(us_socket_t *s, int code, void *reason);
    unsigned spread(unsigned seconds) { return seconds < 10 ? 0 : random_() % (seconds / 10 + 1); }

    us_socket_context_t *context_ = nullptr;
    HttpConnections *connections_ = nullptr;
    WsHandler *handler_ = nullptr;
    us_callbacks_t upstream_{};
    unsigned max_lifetime_ = 0;
    std::minstd_rand random_{std::random_device{}()};
};

}  // namespace uwserve
