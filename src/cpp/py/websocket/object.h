// ServerWebSocket: a handle. `ws` points to the native socket while the connection is open and is nulled, with the GIL
// held, before the close handler runs; every method begins with that one check. The instance holds one reference to the
// handle of every open socket, so a connection needs no name in Python to live.
#pragma once

#include "py/interpreter/args.h"
#include "py/websocket/payload.h"
#include "py/server/core.h"

namespace uwserve {

struct WsQueue;

struct WsObject {
    PyObject_HEAD Socket *ws;  // NULL: not open yet, or closed
    ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    PyObject *data;
    PyObject *protocol;  // str; NULL is ""
    PyObject *weakrefs;
    WsQueue *queue;  // websocket/queue.h; NULL for most
    PyObject *context;  // interpreter/contexts.h; NULL for most
    uint64_t id : 48;  // 1 for the first socket of its server, and so on; 0 until it is open
    uint64_t close_code : 16;  // once closed; 0: the server went first
    uint8_t ip[16];
    uint64_t ip_length : 5;
    BinaryType binary_type : 2;
    bool is_busy : 1;  // serial: a coroutine of a handler is on the stack
    uint64_t running_once : 2;  // the next three are coroutines/running_handlers.h's: Tasks of open and close,
    uint64_t running : 24;  // and of the other handlers,
    uint64_t held_units : 30;  // and the messages that these hold
};

static_assert(sizeof(WsObject) <= 112);  // 128 with the collector's header: each idle connection has one

inline WsObject *as_ws(PyObject *object) { return reinterpret_cast<WsObject *>(object); }

// A new handle, not yet open; NULL with an exception set. `protocol` may be empty.
WsObject *new_handle(ServerCore &core, PyObject *data, std::string_view protocol);

// Makes the type and adds it to the module. False with an exception set.
bool add_websocket_type(PyObject *module, ModuleState *state);

// handler(ws) or handler(ws, argument), whether the socket is open or not; deals with what it raises. Nothing without a
// handler.
void call_handler(ServerCore &core, const Ref &handler, WsObject *handle, PyObject *argument, Origin origin);
void call_close_handler(ServerCore &core, WsObject *handle, int code, std::string_view reason);

// The methods, by file. PyMethodDef tables that end with an empty entry.
extern PyMethodDef kSendMethods[];  // websocket/send.cpp
extern PyMethodDef kTopicMethods[];  // websocket/topics.cpp
extern PyMethodDef kControlMethods[];  // websocket/control.cpp

// The object that a handler gets for a binary message; `view` is set for a memoryview, which must be released after.
struct BinaryMessage {
    Ref object;
    Ref owner;  // of a memoryview: the handler may release the view, and then it has none
};
BinaryMessage make_binary(ServerCore &core, Socket *ws, BinaryType type, std::string_view message);
void release_view(ServerCore &core, BinaryMessage &message);
bool add_view_owner_type(PyObject *module, ModuleState *state);

// What the close handler sees of a Close without a status code (RFC 6455 7.1.5).
constexpr long kNoStatus = 1005;

// The status code and the reason of a Close frame (RFC 6455 7.4, 5.5). False with TypeError or ValueError set. With
// `may_have_none`, the codes that a close handler is given but no frame carries, and Bun's 0, are taken for kNoStatus.
bool read_close_code(PyObject *object, long *code, bool may_have_none = false);
bool read_close_reason(PyObject *object, std::string *reason);

}  // namespace uwserve
