// Events of WebSockets, on their way from uWebSockets to the user's handlers: ServerCore::on_open() and the like.
//
// A handler is called with its own reference to itself and to the handle, because it may close the socket, reload the
// handlers or drop the last name of anything. Messages are copied into Python objects first (defect L11).
#pragma once

#include "py/websocket/object.h"

namespace uwserve {

// handler(ws) or handler(ws, argument), whether the socket is open or not, and what is done about its failure. Does
// nothing without a handler.
void call_handler(ServerCore &core, const Ref &handler, WsObject *handle, PyObject *argument, Origin origin);
void call_close_handler(ServerCore &core, WsObject *handle, int code, std::string_view reason);

}  // namespace uwserve
