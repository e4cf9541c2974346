// The idle timeout of WebSockets, and the Pings that come before it: ping_schedule.h says when each is due.
//
// Only received bytes restart the timeout (defect P9), and, at its end, bytes that a busy peer has acknowledged
// (peer_progress.h). Pings never close a connection. Loop thread only; one per server.
#pragma once

#include "usockets/loop/timeout_wheel.h"
#include "uws/upstream/uwebsockets.h"
#include "uws/websocket/ping_schedule.h"

namespace uwserve {

// us_socket_t::user_bits of a WebSocket, beside kHasLateBytes.
constexpr uint8_t kPinged = 2;  // a Ping was sent, and no byte has arrived since
constexpr uint8_t kMarked = 4;  // PerSocket::acknowledged was recorded, and no byte has arrived since

class IdleTimeout {
  public:
    void install(us_socket_context_t *ws_context);
    // Applies to open sockets too: if the schedule changes, their silence begins anew.
    void set_schedule(const PingSchedule &schedule);
    // A byte has arrived; uWebSockets sets the timer.
    static void received(us_socket_t *s) { s->user_bits &= static_cast<uint8_t>(~(kPinged | kMarked)); }
    // Silence begins anew.
    void restart(us_socket_t *s) {
        received(s);
        us_socket_arm(s, schedule_.next(0));
    }

  private:
    void on_timeout(us_socket_t *s);
    bool is_reading(us_socket_t *s);

    us_socket_context_t *context_ = nullptr;
    PingSchedule schedule_;
};

}  // namespace uwserve
