// Records of opened and closed WebSockets, for debugging. When they are off, they cost two compares for each
// connection.
//
// Python's logging decides whether they are wanted, and may change this at any time. It is asked at most once in a
// second of the loop's clock, by the first connection that opens or closes in it. GIL.
#pragma once

#include <cstdint>
#include <string_view>

#include "py/interpreter/ref.h"

namespace uwserve {

struct WsObject;
class ServerCore;

class ConnectionLog {
  public:
    Ref is_wanted, opened, closed;  // is_wanted() -> bool, opened(ws), closed(ws, code, reason)

    void open(ServerCore &core, WsObject *ws, uint32_t now) {
        if (wants(core, now)) [[unlikely]]
            log_open(core, ws);
    }
    void close(ServerCore &core, WsObject *ws, uint32_t now, int code, std::string_view reason) {
        if (wants(core, now)) [[unlikely]]
            log_close(core, ws, code, reason);
    }

  private:
    bool wants(ServerCore &core, uint32_t now) {
        if (now != asked_at_) [[unlikely]]
            ask(core, now);
        return wanted_;
    }
    Ref call(ServerCore &core, const Ref &hook, Ref arguments);
    void ask(ServerCore &core, uint32_t now);
    void log_open(ServerCore &core, WsObject *ws);
    void log_close(ServerCore &core, WsObject *ws, int code, std::string_view reason);

    uint32_t asked_at_ = 0;  // the loop's first second is 1
    bool wanted_ = false;
};

}  // namespace uwserve
