// Work of HTTP connections that waits until no dispatch is on the stack: the next held request of an answered
// connection, the next piece of a streamed body, and late bytes, which arrived behind a handshake before it was
// accepted. It also keeps connections from starving each other: each one has one visit a turn here, and a visit is
// bounded (http/turn.h). Loop thread only.
#pragma once

#include <deque>
#include <list>
#include <string>

#include "uws/limits/limits.h"

namespace uwserve {

struct HttpConnection;

constexpr uint8_t kHasLateBytes = 1;  // us_socket_t::user_bits of a WebSocket

class Deferred {
  public:
    explicit Deferred(Limits &limits) : limits_(limits) {}
    void install(us_loop_t *loop) { loop_ = loop; }

    // Its next request or piece comes in the next turn.
    void add(HttpConnection &conn);
    void remove(HttpConnection &conn);

    // Late bytes stay in front of what the socket has to read: it is not read before they are delivered.
    void hold_late_bytes(us_socket_t *ws, std::string bytes);
    void deliver_late_bytes(us_socket_t *ws);  // reading has been resumed
    void forget_late_bytes(us_socket_t *ws);
    void drop_late_bytes(us_socket_t *ws);  // they are not needed any more: the socket is read again

  private:
    struct LateBytes {
        us_socket_t *ws;
        Limits::MemoryCharge charge;
        std::string bytes;  // from `begin` on
        size_t begin = 0;
        bool is_visited = false, is_dropped = false;
    };
    void queue_run();
    void run();
    void visit(std::list<LateBytes>::iterator entry);
    static bool deliver_share(LateBytes &entry);
    static void visit(HttpConnection &conn);

    Limits &limits_;
    us_loop_t *loop_ = nullptr;
    bool is_run_queued_ = false;
    std::deque<HttpConnection *> ready_;
    std::list<LateBytes> late_;
};

}  // namespace uwserve
