#include "py/request/request.h"

#include <structmember.h>

#include <new>

#include "docstrings.h"
#include "py/interpreter/types.h"
#include "py/request/tls.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

RequestObject *as_request(PyObject *object) { return reinterpret_cast<RequestObject *>(object); }

int request_traverse(PyObject *object, visitproc visit, void *arg) {
    RequestObject *self = as_request(object);
    return visit_all(
        visit, arg,
        {as_object(Py_TYPE(object)), self->core_object, self->params, self->headers, self->tls, self->context});
}

int request_clear(PyObject *object) {
    RequestObject *self = as_request(object);
    clear_all({&self->params, &self->headers, &self->tls, &self->context});
    return 0;
}

void free_request(PyObject *object) {
    RequestObject *self = as_request(object);
    request_clear(object);
    Py_CLEAR(self->body_object);
    self->body.~RequestBody();  // it refers to the core's limits
    Py_CLEAR(self->core_object);
    self->head.~shared_ptr();
    free_instance(object);
}

void request_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    as_request(object)->core->state->deallocations.run(object, free_request);
}

PyObject *request_repr(PyObject *object) {
    const HttpHead &head = *as_request(object)->head;
    Ref method = Ref::steal(make_latin1(head.method)), target = Ref::steal(make_latin1(head.target));
    if (!method || !target) return nullptr;
    return PyUnicode_FromFormat("<Request %U %U>", method.get(), target.get());
}

PyObject *get_method(PyObject *object, void *) { return make_latin1(as_request(object)->head->method); }
PyObject *get_target(PyObject *object, void *) { return make_latin1(as_request(object)->head->target); }

PyObject *get_path(PyObject *object, void *) {
    std::string_view target = as_request(object)->head->target;
    return make_latin1(target.substr(0, target.find('?')));
}

PyObject *get_query(PyObject *object, void *) {
    std::string_view target = as_request(object)->head->target;
    size_t mark = target.find('?');
    return make_latin1(mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1));
}

PyObject *get_url(PyObject *object, void *) {
    const HttpHead &head = *as_request(object)->head;
    std::string url = as_request(object)->core->is_secure() ? "https://" : "http://";
    url.append(head.host.empty() ? std::string_view("localhost") : head.host);
    if (head.target != "*") url.append(head.target);
    return make_latin1(url);
}

PyObject *get_header_items(PyObject *object, void *) {
    const HttpHead &head = *as_request(object)->head;
    Ref list = Ref::steal(guarded<PyList_New>(static_cast<Py_ssize_t>(head.fields.size())));
    if (!list) return nullptr;
    for (size_t i = 0; i < head.fields.size(); i++) {
        Ref name = Ref::steal(make_latin1(head.fields[i].name)), value = Ref::steal(make_latin1(head.fields[i].value));
        PyObject *pair = name && value ? guarded<PyTuple_Pack>(2, name.get(), value.get()) : nullptr;
        if (!pair) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), pair);
    }
    return list.release();
}

PyObject *get_http_version(PyObject *object, void *) {
    return PyUnicode_FromString(as_request(object)->head->is_http10 ? "1.0" : "1.1");
}

PyObject *get_body(PyObject *object, void *) {
    RequestObject *self = as_request(object);
    if (!self->body_object) {
        std::string_view bytes = self->body.view();
        self->body_object = make_bytes(bytes);
        if (!self->body_object) return nullptr;
        self->body.free_bytes();
    }
    return Py_NewRef(self->body_object);
}

PyObject *get_is_upgrade(PyObject *object, void *) {
    return PyBool_FromLong(read_handshake(*as_request(object)->head).verdict == Handshake::Verdict::kAcceptable);
}

PyObject *get_answered(PyObject *object, void *) { return PyBool_FromLong(!is_open(as_request(object))); }

// Whether a PROXY header has named no client: then the address is the proxy's.
PyObject *is_unknown(PyObject *object, PyObject *) { return PyBool_FromLong(as_request(object)->client.is_unknown); }

PyGetSetDef kAttributes[] = {
    {"method", raw_call<get_method>, nullptr, docs::kRequest_method, nullptr},
    {"url", raw_call<get_url>, nullptr, docs::kRequest_url, nullptr},
    {"target", raw_call<get_target>, nullptr, docs::kRequest_target, nullptr},
    {"path", raw_call<get_path>, nullptr, docs::kRequest_path, nullptr},
    {"query", raw_call<get_query>, nullptr, docs::kRequest_query, nullptr},
    {"header_items", raw_call<get_header_items>, nullptr, docs::kRequest_header_items, nullptr},
    {"http_version", raw_call<get_http_version>, nullptr, docs::kRequest_http_version, nullptr},
    {"body", raw_call<get_body>, nullptr, docs::kRequest_body, nullptr},
    {"is_upgrade", raw_call<get_is_upgrade>, nullptr, docs::kRequest_is_upgrade, nullptr},
    {"tls", raw_call<get_request_tls>, nullptr, docs::kRequest_tls, nullptr},
    {"answered", raw_call<get_answered>, nullptr, docs::kRequest_answered, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef kMethods[] = {
    {"__reduce_ex__", raw_call<refuse_copy>, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef kMembers[] = {
    {"params", T_OBJECT, offsetof(RequestObject, params), 0, docs::kRequest_params},
    {nullptr, 0, 0, 0, nullptr},
};

// These are in the module only, so that users do not see them on the type.
PyMemberDef kKeptHeaders = {"kept_headers", T_OBJECT, offsetof(RequestObject, headers), 0, nullptr};
PyMethodDef kIsUnknown = {"is_unknown", raw_call<is_unknown>, METH_NOARGS, docs::kis_unknown};

}  // namespace

RequestObject *new_request(ServerCore &core, HttpConnection &conn) {
    Ref params = Ref::steal(guarded<PyDict_New>());
    PyObject *object = params ? new_object(core.state->request_type) : nullptr;
    if (!object) return nullptr;
    RequestObject *self = as_request(object);
    self->params = params.release();
    new (&self->head) std::shared_ptr<HttpHead>(conn.head);
    new (&self->body) RequestBody(std::move(conn.body));
    self->core = &core;
    self->core_object = Py_NewRef(core.self);
    self->conn = &conn;
    self->client = conn.client;
    return self;
}

Ref context_for(ServerCore &core, RequestObject *request, bool even_if_pristine) {
    // In the request's coroutine, or a step of its Task, the variables that this has set.
    if (core.contexts.request() == request && !core.contexts.is_running(&request->context))
        return core.contexts.changed_copy();
    return core.contexts.of_running(&request->context, even_if_pristine);
}

bool add_request_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>(docs::kRequest)},
        {Py_tp_traverse, raw_slot<request_traverse>()},
        {Py_tp_clear, raw_slot<request_clear>()},
        {Py_tp_dealloc, raw_slot<request_dealloc>()},
        {Py_tp_repr, raw_slot<request_repr>()},
        {Py_tp_getset, kAttributes},
        {Py_tp_members, kMembers},
        {Py_tp_methods, kMethods},
        {0, nullptr},
    };
    if (!export_type(module, "uwserve._core.Request", sizeof(RequestObject), slots, &state->request_type)) return false;
    Ref headers = Ref::steal(PyDescr_NewMember(state->request_type, &kKeptHeaders));
    Ref unknown = Ref::steal(PyDescr_NewMethod(state->request_type, &kIsUnknown));
    return PyModule_AddObjectRef(module, kKeptHeaders.name, headers.get()) == 0 &&
           PyModule_AddObjectRef(module, kIsUnknown.ml_name, unknown.get()) == 0;
}

}  // namespace uwserve
