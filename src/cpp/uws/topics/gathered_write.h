// Writes several messages of topics to one WebSocket with one system call, large payloads without a copy.
//
// Small messages go into uWebSockets' cork buffer. A gathered write opens at the first message that does not fit, and
// takes the corked bytes, that message and those behind it. It keeps views of payloads, which their owner keeps until
// flush(), and an arena for headers and small payloads. Loop thread only; calls no user code.
#pragma once

#include <array>

#include "uws/websocket/send.h"

namespace uwserve {

class GatheredWrite {
  public:
    static constexpr size_t kMostMessages = 32;  // uWebSockets' tree queues no more for one subscriber

    bool is_open() const { return ws_ != nullptr; }
    Socket *socket() const { return ws_; }
    // False: each message must be written by itself (TLS, a backlog, the end of the connection).
    bool open(Socket *ws);
    // False: full. `compressed`: `payload` is compressed already.
    bool add(std::string_view payload, uWS::OpCode opcode, bool compressed);

    struct Written {
        size_t whole;  // messages that the kernel has taken
        bool split;  // it has taken a part of the next; the connection keeps the rest, so the message counts as sent
    };
    // Writes and closes. The caller sends the messages that are neither whole nor split again, or drops them.
    Written flush();

  private:
    struct Part {
        const char *first;  // in the arena: header and, if it is small, payload
        size_t first_size;
        std::string_view second;
        size_t size() const { return first_size + second.size(); }
    };
    Written keep_rest(size_t written, size_t corked);

    Socket *ws_ = nullptr;
    bool is_corked_ = false;
    size_t count_ = 0, used_ = 0;
    std::array<Part, kMostMessages> parts_;
    std::array<char, kMostMessages *(kLongestHeader + kCopied)> arena_;
};

}  // namespace uwserve
