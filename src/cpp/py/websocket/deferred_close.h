// Close handlers that wait for earlier events of their socket. Loop thread, GIL.
#pragma once

#include <string>
#include <string_view>

#include "py/websocket/object.h"

namespace uwserve {

struct DeferredClose {
    std::string reason;  // with WsObject::close_code
    bool is_due = false;  // the socket is closed, its close handler has not run
};

// Keeps code and reason for later questions. Runs no Python code.
void note_close(WsObject *handle, int code, std::string_view reason);
// Whether the close handler must wait: then it runs later, and what waits for the close is woken. `keep` is the instance's
// reference.
bool defer_close(ServerCore &core, Ref &keep);
// The close handler that has waited runs now.
void run_deferred_close(ServerCore &core, WsObject *handle);
// Runs every close handler that waits, and drops the events it waits for: a stop that takes no time.
void finish_closes(ServerCore &core);

}  // namespace uwserve
