#include "py/websocket/topics.h"

#include "docstrings.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

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
    auto publish = [name = std::string(topic), opcode = payload.opcode(), compress](ServerCore &server, WsObject *ws,
                                                                                    std::string_view bytes) {
        server.publish(ws->ws, name, bytes, opcode, compress);
    };
    return post_copy_for(self, payload.view(), call, publish) ? PyLong_FromSize_t(payload.view().size()) : nullptr;
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
    auto subscribe = [name = std::string(topic)](ServerCore &core, WsObject *ws) {
        if (ws->ws) core.instance->topics().subscribe(ws->ws, name);
    };
    return post_for(self, "ServerWebSocket.subscribe", subscribe) ? Py_NewRef(Py_True) : nullptr;
}

// Whether ask(self, topic), on the loop's thread; False for a socket that is not open.
template <typename F>
PyObject *ask_about_topic(PyObject *object, PyObject *argument, const char *call, F ask) {
    WsObject *self = as_ws(object);
    std::string_view topic;
    if (!read_topic(argument, &topic)) return nullptr;
    if (!self->ws) Py_RETURN_FALSE;
    return self->core->check_loop_thread(call) ? PyBool_FromLong(ask(self, topic)) : nullptr;
}

PyObject *unsubscribe(PyObject *object, PyObject *argument) {
    return ask_about_topic(object, argument, "ServerWebSocket.unsubscribe", [](WsObject *self, std::string_view topic) {
        return self->core->instance->topics().unsubscribe(self->ws, topic);
    });
}

PyObject *is_subscribed(PyObject *object, PyObject *argument) {
    return ask_about_topic(
        object, argument, "ServerWebSocket.is_subscribed",
        [](WsObject *self, std::string_view topic) { return Topics::is_subscribed(self->ws, topic); });
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
