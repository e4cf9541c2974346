// ServerWebSocket: a handle. `ws` points to the native socket while the connection is open. It is set to NULL, with the
// GIL held, before the close handler runs; every method begins with a check of it. The instance holds one reference to
// the handle of every open socket, so a connection lives without a name in Python.
#pragma once

#include "py/interpreter/args.h"
#include "py/interpreter/objects.h"
#include "py/server/core.h"
#include "py/websocket/payload.h"

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
    uint64_t close_code : 16;  // once closed; 0: the server ended before
    uint8_t ip[16];
    uint64_t ip_length : 5;
    BinaryType binary_type : 2;
    bool is_busy : 1;  // serial: a coroutine of a handler is on the stack
    // Counters of coroutines/running_handlers.h:
    uint64_t running_once : 2;  // Tasks of open and close,
    uint64_t running : 24;  // Tasks of the other handlers,
    uint64_t held_units : 30;  // and the messages that these hold
};

static_assert(sizeof(WsObject) <= 112);  // 128 with the collector's header: each idle connection has one

inline WsObject *as_ws(PyObject *object) { return reinterpret_cast<WsObject *>(object); }

// A new handle, not yet open; NULL with an exception set. `protocol` may be empty.
WsObject *new_handle(ServerCore &core, PyObject *data, std::string_view protocol);

// Makes the type and adds it to the module. False with an exception set.
bool add_websocket_type(PyObject *module, ModuleState *state);

// Hands function(core, handle) to the loop's thread, and keeps the handle until then. False with RuntimeError set when
// there is no loop any more.
template <typename F>
bool post_for(WsObject *handle, const char *call, F function) {
    auto kept = std::make_shared<Ref>(new_ref(handle));
    return handle->core->post([kept, function](ServerCore &core) { function(core, as_ws(kept->get())); }, call);
}
// function(core, handle, bytes) with a copy of the bytes; also false with MemoryError set.
template <typename F>
bool post_copy_for(WsObject *handle, std::string_view bytes, const char *call, F function) {
    auto kept = std::make_shared<Ref>(new_ref(handle));
    return handle->core->post_copy(bytes, [kept, function](ServerCore &core, std::string_view copy) {
        function(core, as_ws(kept->get()), copy);
    }, call);
}

}  // namespace uwserve
