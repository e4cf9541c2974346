// Callbacks that wait for a socket to drain or to close. The facade (_websocket/waiting.py) makes awaitables of them.
// GIL.
//
// Registering needs the GIL only. Only the loop's thread can check whether the backlog is small enough, so another
// thread posts the check to it; a waiter that was registered before misses nothing.
#pragma once

#include <cstdint>

#include "py/websocket/object.h"

namespace uwserve {

struct Waiter {
    static constexpr size_t kOnlyClose = SIZE_MAX;

    Ref callback;  // callback(None) when drained, callback((code, reason)) when closed
    size_t mark;  // called when the backlog is not over it; kOnlyClose for closed()
};

void wake_drained(ServerCore &core, WsObject *handle);  // loop thread
void wake_closed(ServerCore &core, WsObject *handle);
extern PyMethodDef kWaiterMethods[];  // of ServerWebSocket, but only in the module: users do not see them

}  // namespace uwserve
