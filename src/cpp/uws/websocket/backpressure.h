// Admits a message for one WebSocket or refuses it, sends and counts it.
//
// Admission. admits() is the only judge, also of the copies of a publish (topics/publisher.h). It compares the limit
// with the real backlog, and nothing is judged twice: uWebSockets' own threshold is never set. Loop thread only; calls
// no user code.
#pragma once

#include "uws/topics/fan_out.h"

namespace uwserve {

enum class SendResult : uint8_t {
    kSent,
    kQueued,  // admitted, but at least a part waits for the peer
    kDropped,  // refused, or the connection is dead
    kNoMemory,
};

// A message of up to this size is always admitted to a socket without a backlog, however short memory is: the kernel
// usually has room.
constexpr size_t kAlwaysAdmitted = 16 * 1024;

class Sender {
  public:
    Sender(Limits &limits, Topics &topics) : limits_(limits), topics_(topics) {}

    SendResult send(Socket *ws, std::string_view message, Opcode opcode, bool compress);

    // Whether the socket admits `length` more bytes. Without a backlog it admits a message of any size, whose unsent
    // part becomes the backlog (as in Bun). With a backlog, no message may exceed the limit (defect S7). Bytes that may
    // stay in memory must also fit under max_buffered_bytes. A refusal is counted.
    bool admits(us_socket_t *s, size_t length) {
        return (length <= kAlwaysAdmitted && buffered_of(s) == 0) || admits_behind(s, length);
    }
    // `owed`: memory that is promised to other messages but not used yet.
    bool admits_behind(us_socket_t *s, size_t length, size_t owed = 0);
    // Acts on a refusal: the connection ends at the end of the turn, if the options say so.
    static void refuse(us_socket_t *s, const Limits &limits) {
        if (limits.websocket.close_on_backpressure_limit) us_socket_shutdown_read(0, s);
    }
    // Sends a Ping or Pong that no handler asked for. Each side checks with them that the other is alive, and they are
    // few: only memory limits them, not the socket's limit.
    static void send_control(us_socket_t *s, std::string_view data, uWS::OpCode opcode, Limits &limits) {
        if (buffered_of(s) && !limits.has_memory_elsewhere(data.size())) [[unlikely]] {
            refuse(s, limits);
            return;
        }
        reinterpret_cast<Socket *>(s)->send(data, opcode);
        limits.stats.sent[opcode].add(data.size());
    }

    SpareMemory send_reserve;  // reserved for a message while it is sent; rarely written to

  private:
    [[gnu::cold]] SendResult drop(us_socket_t *s);

    Limits &limits_;
    Topics &topics_;
};

}  // namespace uwserve
