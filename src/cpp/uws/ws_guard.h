// What stands between the socket layer and upstream's WebSocket context: liveness by inbound bytes only (defect P9), the
// Close frame that upstream does not send when it fails a connection (P6), and reasons for closes that upstream leaves
// empty (S12). Loop thread only; one per server.
#pragma once

#include "http_gate.h"
#include "uws.h"
#include "ws_handler.h"

namespace uwserve {

class WsGuard {
  public:
    void install(us_socket_context_t *ws_context, HttpGate *gate, WsHandler *handler);
    WsHandler &handler() { return *handler_; }

    // Seconds without a received byte after which the connection is closed; 0 = never. With pings, one is sent
    // kPingMargin seconds before that.
    void set_idle_timeout(unsigned seconds, bool send_pings);
    unsigned idle_interval() const { return send_pings_ ? idle_ - margin_ : idle_; }
    // Fails the connection (RFC 6455 7.1.7): a Close frame behind all that was accepted for sending, if that is with the
    // kernel; FIN; closed. The close handler sees the same code and text, after the current dispatch.
    static void fail(us_socket_t *s, const Violation &violation);
    SpareMemory spare;  // of messages in assembly
    size_t max_payload = 16u << 20;  // bytes of a message, reassembled and inflated
    Limits &server_limits() { return gate_->limits(); }
    // A Ping or Pong of our own accord, counted unless upstream drops it.
    void send_control(us_socket_t *s, std::string_view data, uWS::OpCode opcode) {
        if (reinterpret_cast<Socket *>(s)->send(data, opcode) != Socket::DROPPED) {
            server_limits().stats.sent[opcode].add(data.size());
        }
    }
    ContextData *limits() { return static_cast<ContextData *>(us_socket_context_ext(0, context_)); }

  private:
    static us_socket_t *on_data(us_socket_t *s, char *data, int length);
    static us_socket_t *on_timeout(us_socket_t *s);
    static us_socket_t *on_end(us_socket_t *s);
    static us_socket_t *on_close(us_socket_t *s, int code, void *reason);
    static WsGuard *of(us_socket_t *s) { return static_cast<WsGuard *>(s->context->user); }

    us_socket_context_t *context_ = nullptr;
    HttpGate *gate_ = nullptr;
    WsHandler *handler_ = nullptr;
    us_callbacks_t upstream_{};
    unsigned idle_ = 120, margin_ = 16;
    bool send_pings_ = true;
};

// us_socket_t::user_bits of a WebSocket, beside kHasLateBytes.
constexpr uint8_t kPinged = 2;  // a ping was sent and nothing has arrived since

// An unmasked frame of at most 125 payload bytes (RFC 6455 5.5); returns its length. `out` holds 127 bytes.
size_t format_close_frame(char *out, uint16_t code, std::string_view reason);

}  // namespace uwserve
