// What the server sends to one WebSocket: whether a message is admitted, how it leaves, and what is counted.
//
// Admission. admits() is the only judge, also for the copies of a publish (topics/publisher.h). A limit is compared
// with the real backlog, so nothing is judged twice: uWebSockets' own threshold is never set. Loop thread only; calls
// no user code.
#pragma once

#include "uws/topics/topics.h"

namespace uwserve {

enum class SendResult : uint8_t {
    kSent,
    kQueued,  // admitted, and waits at least in part for the peer
    kDropped,  // refused, or the connection is dead
    kNoMemory,
};

// Up to this size a message is tried on a socket without a backlog however short memory is: the kernel has room as a
// rule.
constexpr size_t kAlwaysTried = 16 * 1024;

class Sender {
  public:
    Sender(Limits &limits, Topics &topics) : limits_(limits), topics_(topics) {}

    SendResult send(Socket *ws, std::string_view message, Opcode opcode, bool compress);

    // Whether `length` more bytes fit under the limit of a socket. Without a backlog it takes any one message: what it
    // cannot send at once is then the backlog (as in Bun). With a backlog, no message may push it over the limit
    // (defect S7). What may end up in memory must also fit under max_buffered_bytes. A refusal is counted.
    bool admits(us_socket_t *s, size_t length) {
        return (length <= kAlwaysTried && buffered_of(s) == 0) || admits_behind(s, length);
    }
    // `owed`: memory that is promised to other messages, and not in use yet.
    bool admits_behind(us_socket_t *s, size_t length, size_t owed = 0);
    // The consequence of a refusal: the connection ends if the options say so, at the end of the turn.
    static void refuse(us_socket_t *s, const Limits &limits) {
        if (limits.websocket.close_on_backpressure_limit) us_socket_shutdown_read(0, s);
    }

    SpareMemory spare_backlog;  // reserved for messages while they are sent: hardly ever written to

  private:
    [[gnu::cold]] SendResult drop(us_socket_t *s);

    Limits &limits_;
    Topics &topics_;
};

}  // namespace uwserve
