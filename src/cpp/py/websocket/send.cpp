#include "py/websocket/send.h"

#include "docstrings.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

constexpr Py_ssize_t kFailed = -2;

// The answer, or kFailed with MemoryError set.
Py_ssize_t send_now(WsObject *self, std::string_view data, Opcode opcode, bool compress) {
    SendResult result = self->core->instance->sender().send(self->ws, data, opcode, compress);
    if (result == SendResult::kNoMemory) [[unlikely]] {
        PyErr_NoMemory();
        return kFailed;
    }
    return answer_of(result, data.size());
}

// On another thread: the bytes are copied, and the loop's thread sends them in order. Returns as if they had been sent.
[[gnu::cold]] PyObject *send_later(WsObject *self, std::string_view data, Opcode opcode, bool compress,
                                   const char *call) {
    if (!self->core->has_room_to_post(data.size())) return PyLong_FromLong(0);
    auto send = [opcode, compress](ServerCore &core, WsObject *ws, std::string_view bytes) {
        if (ws->ws && send_now(ws, bytes, opcode, compress) == kFailed) core.log_failure(Origin::kSend);
    };
    return post_copy_for(self, data, call, send) ? PyLong_FromSize_t(data.size()) : nullptr;
}

[[gnu::always_inline]] inline PyObject *send_or_post(WsObject *self, std::string_view data, Opcode opcode,
                                                     bool compress, const char *call) {
    if (!self->core->on_loop_thread()) [[unlikely]]
        return send_later(self, data, opcode, compress, call);
    Py_ssize_t answer = send_now(self, data, opcode, compress);
    return answer == kFailed ? nullptr : PyLong_FromSsize_t(answer);
}

PyObject *send_payload(WsObject *self, PyObject *object, PyObject *compress_object, PayloadKind kind,
                       const char *call) {
    Payload payload;
    bool compress = false;
    if (!payload.read(object, kind, "data") || !read_bool(compress_object, "compress", &compress)) return nullptr;
    if (!self->ws) return PyLong_FromLong(0);
    return send_or_post(self, payload.view(), payload.opcode(), compress, call);
}

template <PayloadKind kind>
PyObject *send(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"data", "compress"};
    static constexpr const char *call = kind == PayloadKind::kAny    ? "ServerWebSocket.send"
                                        : kind == PayloadKind::kText ? "ServerWebSocket.send_text"
                                                                     : "ServerWebSocket.send_binary";
    if (count == 1 && !names) [[likely]]
        return send_payload(as_ws(self), args[0], nullptr, kind, call);
    PyObject *given[2];
    if (!read_args(call, args, count, names, parameters, 1, 2, given)) return nullptr;
    return send_payload(as_ws(self), given[0], given[1], kind, call);
}

template <Opcode opcode>
PyObject *send_control(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"data"};
    static constexpr const char *call = opcode == Opcode::kPing ? "ServerWebSocket.ping" : "ServerWebSocket.pong";
    WsObject *self = as_ws(object);
    PyObject *given[1];
    Payload payload;
    if (!read_args(call, args, count, names, parameters, 0, 1, given)) return nullptr;
    if (given[0] && !payload.read(given[0], PayloadKind::kAny, "data")) return nullptr;
    if (payload.view().size() > 125) {
        PyErr_Format(PyExc_ValueError, "data of a control frame must not be over 125 bytes (RFC 6455 5.5), got %zu",
                     payload.view().size());
        return nullptr;
    }
    if (!self->ws) return PyLong_FromLong(0);
    return send_or_post(self, payload.view(), opcode, false, call);
}

}  // namespace

PyMethodDef kSendMethods[] = {
    {"send", raw_fastcall<send<PayloadKind::kAny>>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerWebSocket_send},
    {"send_text", raw_fastcall<send<PayloadKind::kText>>(), METH_FASTCALL | METH_KEYWORDS,
     docs::kServerWebSocket_send_text},
    {"send_binary", raw_fastcall<send<PayloadKind::kBinary>>(), METH_FASTCALL | METH_KEYWORDS,
     docs::kServerWebSocket_send_binary},
    {"ping", raw_fastcall<send_control<Opcode::kPing>>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerWebSocket_ping},
    {"pong", raw_fastcall<send_control<Opcode::kPong>>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerWebSocket_pong},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
