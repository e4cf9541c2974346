// Close handlers that wait for earlier events of their socket. Loop thread, GIL.
#pragma once

#include <string>

#include "py/websocket/object.h"

namespace uwserve {

struct DeferredClose {
    std::string reason;  // with WsObject::close_code
    bool is_due = false;  // the socket is closed, its close handler has not run
};

// Keeps code and reason for those that ask later (waiters.h). Runs no Python code.
void note_close(WsObject *handle, int code, std::string_view reason);
// Whether the close handler must wait. Then it runs later, coroutines that wait for the close are woken, and `keep`,
// the instance's reference, is taken.
bool defer_close(ServerCore &core, Ref &keep);
// Runs the close handler that has waited.
void run_deferred_close(ServerCore &core, WsObject *handle);
// Runs every close handler that waits, and drops the events that it waits for: for a forced stop.
void finish_closes(ServerCore &core);

}  // namespace uwserve
