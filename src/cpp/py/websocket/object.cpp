#include "py/websocket/object.h"

#include <arpa/inet.h>
#include <structmember.h>

#include <vector>

#include "docstrings.h"
#include "py/interpreter/types.h"
#include "py/websocket/control.h"
#include "py/websocket/queue.h"
#include "py/websocket/send.h"
#include "py/websocket/topics.h"

namespace uwserve {

namespace {

int ws_traverse(PyObject *object, visitproc visit, void *arg) {
    WsObject *self = as_ws(object);
    if (int result = visit_all(visit, arg, {as_object(Py_TYPE(object)), self->data, self->core_object, self->context}))
        return result;
    return self->queue ? traverse_queue(*self->queue, visit, arg) : 0;
}

// core_object stays: methods of a cleared handle must still find a core. The core's clear() breaks the cycle.
int ws_clear(PyObject *object) {
    clear_all({&as_ws(object)->data, &as_ws(object)->context});
    if (WsQueue *queue = as_ws(object)->queue) {
        Ref task = std::move(queue->hold.task);
        std::vector<Waiter> waiters = std::exchange(queue->waiters, {});
        queue->clear();
    }
    return 0;
}

void free_ws(PyObject *object) {
    WsObject *self = as_ws(object);
    if (self->weakrefs) PyObject_ClearWeakRefs(object);
    self->core->state->live_handles--;
    delete std::exchange(self->queue, nullptr);
    clear_all({&self->data, &self->context, &self->protocol, &self->core_object});
    free_instance(object);
}

void ws_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    as_ws(object)->core->state->deallocations.run(object, free_ws);
}

PyObject *ws_repr(PyObject *object) {
    WsObject *self = as_ws(object);
    return PyUnicode_FromFormat("<ServerWebSocket %llu %s>", static_cast<unsigned long long>(self->id),
                                self->ws ? "open" : "closed");
}

PyObject *get_ready_state(PyObject *object, void *) { return PyLong_FromLong(as_ws(object)->ws ? 1 : 3); }

PyObject *get_id(PyObject *object, void *) { return PyLong_FromUnsignedLongLong(as_ws(object)->id); }

PyObject *get_remote_address(PyObject *object, void *) {
    WsObject *self = as_ws(object);
    if (!self->ip_length) Py_RETURN_NONE;
    char text[INET6_ADDRSTRLEN];
    inet_ntop(self->ip_length == 4 ? AF_INET : AF_INET6, self->ip, text, sizeof(text));
    return PyUnicode_FromString(text);
}

PyObject *get_protocol(PyObject *object, void *) {
    PyObject *protocol = as_ws(object)->protocol;
    return protocol ? Py_NewRef(protocol) : PyUnicode_FromStringAndSize("", 0);
}

PyObject *get_server(PyObject *object, void *) { return Py_NewRef(as_ws(object)->core_object); }

PyObject *get_buffered_amount(PyObject *object, void *) {
    WsObject *self = as_ws(object);
    if (self->ws && !self->core->check_loop_thread("ServerWebSocket.buffered_amount")) return nullptr;
    return PyLong_FromSize_t(self->ws ? buffered_of(raw(self->ws)) : 0);
}

PyObject *get_subscriptions(PyObject *object, void *) {
    WsObject *self = as_ws(object);
    if (!self->ws) return guarded<PyList_New>(0);
    if (!self->core->check_loop_thread("ServerWebSocket.subscriptions")) return nullptr;
    // Objects are made only after the walk: that can run finalisers, which may unsubscribe.
    const std::vector<std::string> names = Topics::subscriptions(self->ws);
    Ref list = Ref::steal(guarded<PyList_New>(static_cast<Py_ssize_t>(names.size())));
    if (!list) return nullptr;
    for (size_t i = 0; i < names.size(); i++) {
        PyObject *name = make_utf8(names[i]);
        if (!name) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), name);
    }
    return list.release();
}

constexpr const char *kBinaryTypes[] = {"bytes", "bytearray", "memoryview"};
constexpr const char *kBunBinaryTypes[] = {"nodebuffer", "uint8array", "arraybuffer"};

PyObject *get_binary_type(PyObject *object, void *) {
    return PyUnicode_FromString(kBinaryTypes[static_cast<int>(as_ws(object)->binary_type)]);
}

int set_binary_type(PyObject *object, PyObject *value, void *) {
    if (!value || !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "binary_type must be str, not %.200s",
                     value ? Py_TYPE(value)->tp_name : "deleted");
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (PyUnicode_CompareWithASCIIString(value, kBinaryTypes[i]) == 0 ||
            PyUnicode_CompareWithASCIIString(value, kBunBinaryTypes[i]) == 0) {
            as_ws(object)->binary_type = static_cast<BinaryType>(i);
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "binary_type must be 'bytes', 'bytearray' or 'memoryview' (or Bun's 'nodebuffer', 'uint8array', "
                 "'arraybuffer'), got %R",
                 value);
    return -1;
}

PyGetSetDef kAttributes[] = {
    {"ready_state", raw_call<get_ready_state>, nullptr, docs::kServerWebSocket_ready_state, nullptr},
    {"id", raw_call<get_id>, nullptr, docs::kServerWebSocket_id, nullptr},
    {"remote_address", raw_call<get_remote_address>, nullptr, docs::kServerWebSocket_remote_address, nullptr},
    {"subscriptions", raw_call<get_subscriptions>, nullptr, docs::kServerWebSocket_subscriptions, nullptr},
    {"binary_type", raw_call<get_binary_type>, raw_call<set_binary_type>, docs::kServerWebSocket_binary_type, nullptr},
    {"protocol", raw_call<get_protocol>, nullptr, docs::kServerWebSocket_protocol, nullptr},
    {"buffered_amount", raw_call<get_buffered_amount>, nullptr, docs::kServerWebSocket_buffered_amount, nullptr},
    {"server", raw_call<get_server>, nullptr, docs::kServerWebSocket_server, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

// `data` is a member like those of __slots__ (T_OBJECT_EX): the interpreter reads it without a call or a lookup.
PyMemberDef kMembers[] = {
    {"data", T_OBJECT_EX, offsetof(WsObject, data), 0, docs::kServerWebSocket_data},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(WsObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

}  // namespace

WsObject *new_handle(ServerCore &core, PyObject *data, std::string_view protocol) {
    Ref name;
    if (!protocol.empty()) {
        name = Ref::steal(PyUnicode_DecodeASCII(protocol.data(), static_cast<Py_ssize_t>(protocol.size()), nullptr));
        if (!name) return nullptr;
    }
    PyObject *object = new_object(core.state->websocket_type);  // zeroed
    if (!object) return nullptr;
    WsObject *self = as_ws(object);
    self->core = &core;
    self->core_object = Py_NewRef(core.self);
    self->data = Py_NewRef(data);
    self->protocol = name.release();
    core.state->live_handles++;
    return self;
}

bool add_websocket_type(PyObject *module, ModuleState *state) {
    // One table with the methods of all files, which must outlive the type.
    static std::vector<PyMethodDef> methods;
    if (methods.empty()) {
        for (PyMethodDef *table : {kSendMethods, kTopicMethods, kControlMethods, kMessagesMethods}) {
            for (PyMethodDef *m = table; m->ml_name; m++) methods.push_back(*m);
        }
        methods.push_back({"__reduce_ex__", raw_call<refuse_copy>, METH_O, nullptr});
        methods.push_back(
            {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, docs::kServerWebSocket_class_getitem});
        methods.push_back({nullptr, nullptr, 0, nullptr});
    }
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>(docs::kServerWebSocket)},
        {Py_tp_traverse, raw_slot<ws_traverse>()},
        {Py_tp_clear, raw_slot<ws_clear>()},
        {Py_tp_dealloc, raw_slot<ws_dealloc>()},
        {Py_tp_repr, raw_slot<ws_repr>()},
        {Py_tp_getset, kAttributes},
        {Py_tp_members, kMembers},
        {Py_tp_methods, methods.data()},
        {0, nullptr},
    };
    if (!export_type(module, "uwserve._core.ServerWebSocket", sizeof(WsObject), slots, &state->websocket_type))
        return false;
    for (PyMethodDef *method = kWaiterMethods; method->ml_name; method++) {
        Ref descriptor = Ref::steal(PyDescr_NewMethod(state->websocket_type, method));
        if (PyModule_AddObjectRef(module, method->ml_name, descriptor.get())) return false;
    }
    return true;
}

}  // namespace uwserve
