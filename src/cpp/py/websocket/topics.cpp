// publish, subscribe, unsubscribe, is_subscribed of a socket.
#include "py/websocket/object.h"
#include "docstrings.h"

namespace uwserve {

namespace {

Ref owned(WsObject *self) { return Ref::borrow(reinterpret_cast<PyObject *>(self)); }

template <PayloadKind kind>
PyObject *publish(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"topic", "data", "compress"};
    static constexpr const char *call = "ServerWebSocket.publish";
    WsObject *self = as_ws(object);
    PyObject *given[3];
    std::string_view topic;
    Payload payload;
    bool compress = false;
    if (!read_args(call, args, count, names, parameters, 2, 3, given) || !read_topic(given[0], &topic) ||
        !payload.read(given[1], kind, "data") || !read_bool(given[2], "compress", &compress)) {
        return nullptr;
    }
    ServerCore &core = *self->core;
    if (core.finish.is_done()) return PyLong_FromLong(0);
    if (core.on_loop_thread()) {
        return PyLong_FromSsize_t(core.publish(self->ws, topic, payload.view(), payload.opcode(), compress));
    }
    if (!core.has_room_to_post(payload.view().size())) return PyLong_FromLong(0);
    auto handle = std::make_shared<Ref>(owned(self));
    bool posted = core.post_copy(payload.view(),
                                 [handle, name = std::string(topic), opcode = payload.opcode(), compress](
                                     ServerCore &server, std::string_view bytes) {
        server.publish(as_ws(handle->get())->ws, name, bytes, opcode, compress);
    },
                                 call);
    return posted ? PyLong_FromSize_t(payload.view().size()) : nullptr;
}

PyObject *subscribe(PyObject *object, PyObject *argument) {
    WsObject *self = as_ws(object);
    std::string_view topic;
    if (!read_topic(argument, &topic)) return nullptr;
    if (!self->ws) Py_RETURN_FALSE;
    if (self->core->on_loop_thread()) {
        self->core->instance->topics().subscribe(self->ws, topic);
        Py_RETURN_TRUE;
    }
    auto handle = std::make_shared<Ref>(owned(self));
    bool posted = self->core->post([handle, name = std::string(topic)](ServerCore &core) {
        if (Socket *ws = as_ws(handle->get())->ws) core.instance->topics().subscribe(ws, name);
    }, "ServerWebSocket.subscribe");
    return posted ? Py_NewRef(Py_True) : nullptr;
}

PyObject *unsubscribe(PyObject *object, PyObject *argument) {
    WsObject *self = as_ws(object);
    std::string_view topic;
    if (!read_topic(argument, &topic)) return nullptr;
    if (!self->ws) Py_RETURN_FALSE;
    if (!self->core->on_loop_thread()) {
        self->core->refuse_thread("ServerWebSocket.unsubscribe");
        return nullptr;
    }
    return PyBool_FromLong(self->core->instance->topics().unsubscribe(self->ws, topic));
}

PyObject *is_subscribed(PyObject *object, PyObject *argument) {
    WsObject *self = as_ws(object);
    std::string_view topic;
    if (!read_topic(argument, &topic)) return nullptr;
    if (!self->ws) Py_RETURN_FALSE;
    if (!self->core->on_loop_thread()) {
        self->core->refuse_thread("ServerWebSocket.is_subscribed");
        return nullptr;
    }
    return PyBool_FromLong(Topics::is_subscribed(self->ws, topic));
}

}  // namespace

Py_ssize_t ServerCore::publish(Socket *sender, std::string_view topic, std::string_view message, Opcode opcode,
                               bool compress) {
    if (!instance) return 0;
    SendResult result = instance->publisher().publish(instance->loop(), sender, topic, message, opcode, compress);
    return answer_of(result, message.size());
}

PyMethodDef kTopicMethods[] = {
    {"publish", raw_fastcall<publish<PayloadKind::kAny>>(), METH_FASTCALL | METH_KEYWORDS,
     docs::kServerWebSocket_publish},
    {"publish_text", raw_fastcall<publish<PayloadKind::kText>>(), METH_FASTCALL | METH_KEYWORDS,
     docs::kServerWebSocket_publish_text},
    {"publish_binary", raw_fastcall<publish<PayloadKind::kBinary>>(), METH_FASTCALL | METH_KEYWORDS,
     docs::kServerWebSocket_publish_binary},
    {"subscribe", raw_call<subscribe>, METH_O, docs::kServerWebSocket_subscribe},
    {"unsubscribe", raw_call<unsubscribe>, METH_O, docs::kServerWebSocket_unsubscribe},
    {"is_subscribed", raw_call<is_subscribed>, METH_O, docs::kServerWebSocket_is_subscribed},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
