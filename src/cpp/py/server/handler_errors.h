// Exceptions of user code: the `error` handler gets them, or the log, and they are counted by their origin.
//
// KeyboardInterrupt and SystemExit are neither logged nor counted while the server runs: they end the run. GIL; counts:
// any thread.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "py/interpreter/ref.h"
#include "py/server/origin.h"

namespace uwserve {

class ServerCore;
struct WsObject;

// Whether an exception ends a run, as in asyncio: KeyboardInterrupt and SystemExit, and no other.
bool ends_run(PyObject *error);

class HandlerErrors {
  public:
    explicit HandlerErrors(ServerCore &core) : core_(core) {}
    HandlerErrors(const HandlerErrors &) = delete;
    HandlerErrors &operator=(const HandlerErrors &) = delete;

    // The current exception goes to the `error` handler if `ws` is given and there is one, else to the log.
    void handle(WsObject *ws, Origin origin);
    void log(Origin origin, WsObject *ws);
    // The C++ exception that is being handled, at the top of a turn: nothing stays corked.
    [[gnu::cold]] void log_native(Origin origin);

    void count(Origin origin) {
        counts_[static_cast<size_t>(std::min(origin, Origin::kOther))].fetch_add(1, std::memory_order_relaxed);
    }
    uint64_t of(size_t origin) const { return counts_[origin].load(std::memory_order_relaxed); }

  private:
    ServerCore &core_;
    std::array<std::atomic<uint64_t>, kCountedOrigins> counts_{};
};

}  // namespace uwserve
