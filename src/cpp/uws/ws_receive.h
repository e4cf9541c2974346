// The receive path of a WebSocket: from the bytes of a read to the handlers.
//
// ReceiveState lies inside upstream's WebSocketData and lives from the upgrade to the socket's on_close, which never runs
// while a handler is on the stack. Loop thread only.
#pragma once

#include <libusockets.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

#include "ws_frame.h"

namespace uwserve {

struct FreeMemory {
    void operator()(char *memory) const { free(memory); }
};
using Memory = std::unique_ptr<char, FreeMemory>;

// The memory of a message that did not arrive in one piece. It grows with what has arrived, to twice that at most, and
// never by what a frame announces; it is given back with the message (defect P7).
class Assembly {
  public:
    // Room for `size` more bytes, which count as there; nullptr when there is no memory. `most`: what can still come of
    // this message, if known, bounds the growth.
    char *extend(size_t size, uint64_t most);
    std::string_view view() const { return {memory_.get(), size_}; }
    char *data() { return memory_.get(); }
    size_t capacity() const { return capacity_; }
    // Hands the memory over; the assembly is empty afterwards.
    Memory take() {
        size_ = capacity_ = 0;
        return std::move(memory_);
    }

  private:
    Memory memory_;
    size_t size_ = 0, capacity_ = 0;
};

struct ReceiveState {
    FrameState frames;
    Assembly assembly;
};

// The bytes of one read, for a WebSocket that is open and not shutting down. They are overwritten.
void receive(us_socket_t *s, ReceiveState &state, char *data, size_t size);

}  // namespace uwserve
