// Handles the events of WebSockets between the socket layer and uWebSockets: liveness by received bytes (defect P9),
// or, of a peer that is busy reading, by what it acknowledges (websocket/peer_progress.h); Pings that never close a
// connection (websocket/ping_schedule.h); the maximum lifetime; the Close frame that uWebSockets does not send when it
// fails a connection (P6); and the reasons of closes that uWebSockets leaves empty (S12). Loop thread only; one per
// server.
#pragma once

#include <random>

#include "uws/http/connections.h"
#include "uws/upstream/uwebsockets.h"
#include "uws/websocket/handler.h"
#include "uws/websocket/ping_schedule.h"
#include "uws/websocket/backpressure.h"
#include "usockets/loop/timeout_wheel.h"

namespace uwserve {

// us_socket_t::user_bits of a WebSocket, beside kHasLateBytes.
constexpr uint8_t kPinged = 2;  // a ping was sent and nothing has arrived since
constexpr uint8_t kMarked =
    4;  // PerSocket::taken says how far the peer had come when it was last looked at, and the same

class Lifecycle {
  public:
    void install(us_socket_context_t *ws_context, HttpConnections *connections, WsHandler *handler);
    static Lifecycle *of(us_socket_t *s) { return static_cast<Lifecycle *>(s->context->user); }
    WsHandler &handler() { return *handler_; }
    HttpConnections &connections() { return *connections_; }

    // From now on, also for the open sockets, whose silence begins anew if the schedule changes.
    void set_liveness(const Liveness &liveness);
    // Seconds that a socket may live, 0 = any number; each is asked to go (on_expire) up to a tenth earlier. Open ones
    // keep their age, or have it counted from now on if it was 0 before; a socket that is too old already goes within
    // that tenth.
    void set_max_lifetime(unsigned seconds);
    void opened(us_socket_t *s);
    // Silence begins anew: an inbound byte, or reading that begins again.
    void heard(us_socket_t *s) {
        s->user_bits &= static_cast<uint8_t>(~(kPinged | kMarked));
        us_socket_arm(s, liveness_.next(0));
    }
    // Fails the connection (RFC 6455 7.1.7): a Close frame behind all that was accepted for sending, if that is with
    // the kernel; FIN; closed. The close handler sees the same code and text, after the current dispatch.
    static void fail(us_socket_t *s, const Violation &violation);
    SparePieces spare;  // of messages in assembly
    Limits &server_limits() { return connections_->limits(); }
    // A Ping or Pong that no handler asked for, counted if it is sent. Both are few, and whether either side takes the
    // other for alive depends on them: a backlog over its limit does not keep them back, want of memory does.
    void send_control(us_socket_t *s, std::string_view data, uWS::OpCode opcode) {
        Limits &limits = server_limits();
        if (buffered_of(s) && !limits.has_memory_elsewhere(data.size())) [[unlikely]] {
            Sender::refuse(s, limits);
            return;
        }
        reinterpret_cast<Socket *>(s)->send(data, opcode);
        limits.stats.sent[opcode].add(data.size());
    }

  private:
    static us_socket_t *on_data(us_socket_t *s, char *data, int length);
    bool is_reading(us_socket_t *s);
    static us_socket_t *on_timeout(us_socket_t *s);
    static us_socket_t *on_long_timeout(us_socket_t *s);
    unsigned spread(unsigned seconds) { return seconds < 10 ? 0 : random_() % (seconds / 10 + 1); }
    static us_socket_t *on_end(us_socket_t *s);
    static us_socket_t *on_close(us_socket_t *s, int code, void *reason);

    us_socket_context_t *context_ = nullptr;
    HttpConnections *connections_ = nullptr;
    WsHandler *handler_ = nullptr;
    us_callbacks_t upstream_{};
    Liveness liveness_;
    unsigned max_lifetime_ = 0;
    std::minstd_rand random_{std::random_device{}()};
};

// An unmasked frame of at most 125 payload bytes (RFC 6455 5.5); returns its length. `out` holds 127 bytes.
size_t format_close_frame(char *out, uint16_t code, std::string_view reason);

}  // namespace uwserve
