// Observers: WebSockets of the server's own, over which its dashboard is fed. They come over the same connections and TLS as
// any other, but no handler of the user's ever hears of one, and no count of the server's includes it.
//
// That costs the others nothing. An observer has a queue (websocket/queue.h) from the start, and what is special about it hangs off
// the ways that sockets with a queue take anyway; it subscribes to nothing, so topics do not know it. What it sends is
// dropped unseen. Its connection, its request and its bytes are counted where all are, and once more in Stats::own, as are
// those of the dashboard's page; its control frames count.
//
// Loop thread, GIL.
#include <cstring>

#include "docstrings.h"
#include "py/request/request.h"
#include "uws/deflate/per_message.h"
#include "py/websocket/queue.h"

namespace uwserve {

namespace {

constexpr unsigned kCloseSeconds = 2;  // that an observer may take to leave

// From here on the request and its connection are the dashboard's.
void leave_out(ServerCore &core, const RequestObject *request) {
    OwnTraffic &own = core.limits.stats.own;
    own.take(request->conn->s);
    own.requests.add();
    own.bytes_read.add(request->head->bytes.size() + request->body.size());
}

// _leave_out(request, answer): what answer() returns. What it writes counts as the dashboard's, too.
PyObject *leave_request_out(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = core_of(self);
    if (!core) return nullptr;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "_leave_out() takes a request and a callable");
        return nullptr;
    }
    RequestObject *request = read_request(core, args[0], "Server._leave_out");
    if (!request) return nullptr;
    if (!is_open(request)) return guarded<PyObject_CallNoArgs>(args[1]);
    ServerCore::DispatchScope entry(*core);  // keeps the loop, which `own` reads at the end
    leave_out(*core, request);
    OwnWrites own(core->limits.stats, request->conn->s);
    return guarded<PyObject_CallNoArgs>(args[1]);
}

// _observe(request): the handle, or None when this is no handshake that can be accepted. There is no compression.
PyObject *observe(PyObject *self, PyObject *object) {
    ServerCore *core = core_of(self);
    RequestObject *request = core ? read_request(core, object, "Server._observe") : nullptr;
    if (!request) return nullptr;
    if (!is_open(request) || request->conn->half_closed || core->stopping) Py_RETURN_NONE;
    Handshake handshake = read_handshake(*request->head);
    if (handshake.verdict != Handshake::Verdict::kAcceptable) Py_RETURN_NONE;
    Ref handle = Ref::steal(reinterpret_cast<PyObject *>(new_handle(*core, Py_None, {})));
    WsQueue *queue = handle ? queue_of(as_ws(handle.get())) : nullptr;
    if (!queue) return nullptr;
    queue->is_observer = true;
    // Making the handle may have run a finaliser that answered the request, or stopped the server.
    if (!is_open(request) || core->stopping) Py_RETURN_NONE;
    ServerCore::DispatchScope entry(*core);
    HttpConnection &conn = *request->conn;
    WsObject *ws = as_ws(handle.get());
    ws->ip_length = request->client.ip_length;
    memcpy(ws->ip, request->client.ip, sizeof(ws->ip));
    leave_out(*core, request);
    OwnWrites own(core->limits.stats, conn.s);
    PerSocket user;
    Ref engines = Ref::borrow(handle.get());  // given back at close
    user.handle = engines.get();
    const UpgradeAnswer answer{std::string(handshake.key), {}, {}, {}, user};
    core->on_settled(conn);
    core->instance->connections().upgrade(conn, answer);
    engines.release();
    return handle.release();
}

// _tell_observer(ws, text): False when it is closed, has not read what it was sent before, or memory is short.
PyObject *tell_observer(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = core_of(self);
    if (!core) return nullptr;
    if (count != 2 || !PyObject_TypeCheck(args[0], core->state->websocket_type) || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "_tell_observer() takes an observer and a str");
        return nullptr;
    }
    WsObject *handle = as_ws(args[0]);
    if (!core->on_loop_thread()) {
        core->refuse_thread("Server._tell_observer");
        return nullptr;
    }
    if (handle->core != core || !is_observer(handle)) {
        PyErr_SetString(PyExc_ValueError, "this socket is no observer of the server");
        return nullptr;
    }
    Py_ssize_t length = 0;
    const char *text = PyUnicode_AsUTF8AndSize(args[1], &length);
    if (!text) return nullptr;
    std::string_view message(text, static_cast<size_t>(length));
    if (!handle->ws || buffered_of(raw(handle->ws)) > 0 || !core->limits.has_memory(message.size())) Py_RETURN_FALSE;
    us_socket_t *s = raw(handle->ws);
    if (!reserve_backlog(s, message.size())) return PyErr_NoMemory();
    ServerCore::DispatchScope entry(*core);
    OwnWrites own(core->limits.stats, s);
    Socket::SendStatus status = send_message(handle->ws, message, uWS::OpCode::TEXT, false);
    if (!s->closed) core->limits.stats.own.bytes_written.add(buffered_of(s));  // goes out later; there was none before
    trim_backlog(s);
    return PyBool_FromLong(status != Socket::DROPPED);
}

// _set_message_handler(handler): until the next set_websocket(); no other option is touched.
PyObject *set_message_handler(PyObject *self, PyObject *handler) {
    ServerCore *core = core_of(self);
    if (!core) return nullptr;
    if (!core->on_loop_thread()) {
        core->refuse_thread("Server._set_message_handler");
        return nullptr;
    }
    Ref old = std::exchange(core->options.message, handler == Py_None ? Ref() : Ref::borrow(handler));
    Py_RETURN_NONE;
}

}  // namespace

bool is_observer(const WsObject *handle) { return handle->queue && handle->queue->is_observer; }

bool drop_observers_message(ServerCore &core, std::string_view message, Content content) {
    auto kind = content == Content::kBinary ? uWS::OpCode::BINARY : uWS::OpCode::TEXT;
    core.limits.stats.received[kind].take_back(message.size());
    size_t header = message.size() < 126 ? 6 : message.size() < 65536 ? 8 : 14;  // RFC 6455 5.2, with the mask
    core.limits.stats.own.bytes_read.add(header + message.size());
    return true;
}

// They would hold a stop up that waits for everybody to leave.
void ServerCore::close_observers() {
    if (!observers) return;
    us_socket_context_each(instance->ws_context(), [](us_socket_t *s, void *user) {
        auto *handle = static_cast<WsObject *>(reinterpret_cast<Socket *>(s)->getUserData()->handle);
        if (!handle || !is_observer(handle)) return;
        static_cast<ServerCore *>(user)->close_handle(handle, 1001, "Server closed");
        if (!s->closed) us_socket_deadline(s, kCloseSeconds);
    }, this);
}

PyMethodDef kObserverMethods[] = {
    {"_observe", raw_call<observe>, METH_O, docs::kServerCore_observe},
    {"_leave_out", raw_fastcall<leave_request_out>(), METH_FASTCALL, docs::kServerCore_leave_out},
    {"_tell_observer", raw_fastcall<tell_observer>(), METH_FASTCALL, docs::kServerCore_tell_observer},
    {"_set_message_handler", raw_call<set_message_handler>, METH_O, docs::kServerCore_set_message_handler},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
