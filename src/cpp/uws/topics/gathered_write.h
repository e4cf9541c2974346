// Messages of topics on their way to one WebSocket, with one system call for all: large payloads from where they lie.
//
// What fits uWebSockets' cork buffer goes there. A batch opens at the first message that does not, and takes what was
// corked before it, that message and those behind it. Memory: views, which their owner keeps until flush(), and an
// arena for headers and small payloads. Loop thread only; calls no user code.
#pragma once

#include <array>

#include "uws/websocket/send.h"

namespace uwserve {

class Batch {
  public:
    static constexpr size_t kMostMessages = 32;  // that uWebSockets' tree keeps for one subscriber

    bool is_open() const { return ws_ != nullptr; }
    Socket *socket() const { return ws_; }
    // False: the socket has to be written to message by message (TLS, a backlog, the end of the connection).
    bool open(Socket *ws);
    // False: full. `payload` is compressed already if it is `compressed`.
    bool add(std::string_view payload, uWS::OpCode opcode, bool compressed);

    struct Written {
        size_t whole;  // messages that the kernel has
        bool split;  // the one behind them is kept by the connection, in part: it counts as sent
    };
    // Ends the batch. Messages that are neither whole nor split are the caller's to send again, or to drop.
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
