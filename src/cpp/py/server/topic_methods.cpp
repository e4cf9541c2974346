#include "py/server/topic_methods.h"

#include "docstrings.h"
#include "py/server/server_object.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

PyObject *publish(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"topic", "data", "compress"};
    ServerCore *core = core_of(self);
    PyObject *given[3];
    std::string_view topic;
    Payload payload;
    bool compress = true;
    if (!core || !read_args("Server.publish", args, count, names, parameters, 2, 3, given) ||
        !read_topic(given[0], &topic) || !payload.read(given[1], PayloadKind::kAny, "data") ||
        !read_bool(given[2], "compress", &compress) || !core->check_alive("Server.publish")) {
        return nullptr;
    }
    if (core->on_loop_thread())
        return PyLong_FromSsize_t(core->publish(nullptr, topic, payload.view(), payload.opcode(), compress));
    if (core->finish.is_done() || !core->has_room_to_post(payload.view().size())) return PyLong_FromLong(0);
    bool posted = core->post_copy(
        payload.view(),
        [name = std::string(topic), opcode = payload.opcode(), compress](ServerCore &server, std::string_view bytes) {
        server.publish(nullptr, name, bytes, opcode, compress);
    }, "Server.publish");
    return posted ? PyLong_FromSize_t(payload.view().size()) : nullptr;
}

PyObject *subscriber_count(PyObject *self, PyObject *object) {
    ServerCore *core = core_of(self);
    std::string_view topic;
    if (!core || !read_topic(object, &topic) || !core->check_alive("Server.subscriber_count")) return nullptr;
    if (!core->on_loop_thread()) {
        core->refuse_thread("Server.subscriber_count");
        return nullptr;
    }
    return PyLong_FromSize_t(core->instance ? core->instance->topics().subscriber_count(topic) : 0);
}

}  // namespace

PyMethodDef kServerTopicMethods[] = {
    {"publish", raw_fastcall<publish>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerCore_publish},
    {"subscriber_count", raw_call<subscriber_count>, METH_O, docs::kServerCore_subscriber_count},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
