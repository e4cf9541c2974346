#include "py/request/answers.h"

#include <algorithm>
#include <cstring>

#include "docstrings.h"
#include "py/request/socket_address.h"
#include "py/server/server_object.h"
#include "py/websocket/object.h"
#include "uws/http/status.h"

namespace uwserve {

namespace {

constexpr std::pair<std::string_view, std::string_view> kRetryAfter[] = {{"Retry-After", "1"}};

RequestObject *request_of(HttpConnection &conn) { return static_cast<RequestObject *>(conn.request); }

// A Python object that must outlive a response. It may be destroyed without the GIL held, on the loop's thread.
class HeldObject : public BodyOwner {
  public:
    HeldObject(ServerCore &core, PyObject *object) : core_(core), object_(Ref::borrow(object)) {}
    ~HeldObject() override {
        core_.gil.ensure();
        object_.reset();
    }

  private:
    ServerCore &core_;
    Ref object_;
};

// The status line of a response from its code. False with ValueError set.
bool read_status(PyObject *object, std::string *line) {
    long status = PyLong_Check(object) && !PyBool_Check(object) ? PyLong_AsLong(object) : -1;
    if (status == -1 && PyErr_Occurred()) PyErr_Clear();
    if (status < 200 || status > 599) {
        PyErr_Format(PyExc_ValueError, "status must be an int in 200..599, got %R", object);
        return false;
    }
    *line = std::to_string(status) + " " + http_reason(static_cast<int>(status));
    return true;
}

}  // namespace

// --- arguments common to the methods below ---

RequestObject *read_request(ServerCore *core, PyObject *object, const char *call) {
    if (!object || !PyObject_TypeCheck(object, core->state->request_type)) {
        PyErr_Format(PyExc_TypeError, "request must be a Request, not %.200s",
                     object ? Py_TYPE(object)->tp_name : "missing");
        return nullptr;
    }
    auto *request = reinterpret_cast<RequestObject *>(object);
    if (request->core != core) {
        PyErr_SetString(PyExc_ValueError, "the request belongs to another server");
        return nullptr;
    }
    return core->check_alive(call) && core->check_loop_thread(call) ? request : nullptr;
}

bool check_count(const char *call, Py_ssize_t count, Py_ssize_t expected) {
    if (count == expected) return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", call, expected, count);
    return false;
}

bool ResponseArguments::read(PyObject *self, PyObject *const *args, Py_ssize_t count, const char *call) {
    core = controlled_core(self);
    if (!core || !check_count(call, count, 4)) return false;
    request = read_request(core, args[0], call);
    return request && read_status(args[1], &status) && headers.read(args[2], FieldList::For::kResponse);
}

// --- methods ---

namespace {

PyObject *respond(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ResponseArguments given;
    if (!given.read(self, args, count, "Server.respond")) return nullptr;
    auto &[core, request, status, headers] = given;
    if (args[3] != Py_None && !PyBytes_Check(args[3])) {
        PyErr_Format(PyExc_TypeError, "body must be bytes or None, not %.200s", Py_TYPE(args[3])->tp_name);
        return nullptr;
    }
    if (!is_open(request)) Py_RETURN_FALSE;
    ServerCore::DispatchScope entry(*core);
    HttpConnection &conn = *request->conn;
    if (headers.wants_close()) conn.head->close = true;
    if (args[3] == Py_None) {
        send_response(conn, status, headers.fields(), std::nullopt, nullptr, headers.content_length());
    } else {
        std::string_view body(PyBytes_AS_STRING(args[3]), static_cast<size_t>(PyBytes_GET_SIZE(args[3])));
        send_response(conn, status, headers.fields(), body, std::make_unique<HeldObject>(*core, args[3]),
                      headers.content_length());
    }
    core->gil.ensure();
    Py_RETURN_TRUE;
}

// _call_for(request, function, *arguments): with the context variables that the request's handler has set.
PyObject *call_for(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = controlled_core(self);
    if (!core) return nullptr;
    if (count < 2) {
        PyErr_SetString(PyExc_TypeError, "_call_for() takes a request and a function");
        return nullptr;
    }
    RequestObject *request = read_request(core, args[0], "Server._call_for");
    if (!request) return nullptr;
    Ref keep = Ref::borrow(args[0]), function = Ref::borrow(args[1]);
    RequestScope scope(*core, request);
    return scope ? guarded<PyObject_Vectorcall>(function.get(), args + 2, static_cast<size_t>(count - 2), nullptr)
                 : nullptr;
}

PyObject *defer(PyObject *self, PyObject *object) {
    ServerCore *core = controlled_core(self);
    RequestObject *request = core ? read_request(core, object, "Server.defer") : nullptr;
    if (!request) return nullptr;
    request->deferred = true;
    Py_RETURN_NONE;
}

// The subprotocol to select, "" for none (RFC 6455 4.2.2): the first name given to upgrade() that the client offers;
// there must be such a one. Without names, the first of the option's that the client offers. Without the option, the
// client's first, as in Bun, because clients give up if none is selected. False with ValueError set.
bool choose_protocol(const ServerCore &core, const Handshake &handshake, const std::vector<std::string> &asked,
                     std::string *chosen, bool *is_unknown) {
    const auto &offers = handshake.protocols;
    const auto &configured = core.options.protocols;
    const std::vector<std::string> *known = !asked.empty() ? &asked : configured ? &*configured : nullptr;
    if (!known) {
        *is_unknown = !offers.empty();
        if (*is_unknown) *chosen = offers.front();
        return true;
    }
    auto found = std::find_first_of(known->begin(), known->end(), offers.begin(), offers.end());
    if (found != known->end()) {
        *chosen = *found;
    } else if (!asked.empty()) {
        PyErr_Format(PyExc_ValueError, "protocol '%.200s' was not offered by the client", asked.front().c_str());
        return false;
    }
    return true;
}

// Once per server, at the end of the upgrade, because a logging handler may run any code.
[[gnu::cold]] void report_unknown_protocol(ServerCore &core, const std::string &name) {
    Ref hook = std::move(core.on_unknown_protocol);
    if (!hook) return;
    Ref result = Ref::steal(guarded<PyObject_CallFunction>(hook.get(), "s", name.c_str()));
    if (!result) core.log_failure(Origin::kUpgrade);
}

PyObject *upgrade(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"request", "headers", "data", "protocol"};
    ServerCore *core = core_of(self);
    PyObject *given[4];
    Ref kept[3];  // values of a dict, which reading the headers could change
    if (!core) return nullptr;
    if (count > 1) {
        // Bun's way: upgrade(request, {"data": ..., "headers": ...}).
        if (count > 2 || names || !PyDict_Check(args[1])) {
            PyErr_SetString(PyExc_TypeError,
                            "upgrade() takes a request, and headers, data and protocol by keyword or in one dict");
            return nullptr;
        }
        if (!read_dict("Server.upgrade", args[1], parameters + 1, 3, given + 1)) return nullptr;
        given[0] = args[0];
        for (int i = 0; i < 3; i++) kept[i] = Ref::borrow(given[i + 1]);
    } else if (!read_args("Server.upgrade", args, count, names, parameters, 1, 4, given)) {
        return nullptr;
    }
    RequestObject *request = read_request(core, given[0], "Server.upgrade");
    FieldList headers;
    if (!request || !headers.read(given[1], FieldList::For::kUpgrade)) return nullptr;
    std::vector<std::string> asked = headers.protocols();
    bool selects_none = false;
    if (given[3] && given[3] != Py_None) {
        const char *name = PyUnicode_Check(given[3]) ? PyUnicode_AsUTF8(given[3]) : nullptr;
        if (!name) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_TypeError, "protocol must be str or None, not %.200s", Py_TYPE(given[3])->tp_name);
            return nullptr;
        }
        selects_none = !*name;
        asked = {name};
    }
    if (!is_open(request) || request->conn->half_closed || !core->options.enabled || core->stop.has_started())
        Py_RETURN_FALSE;
    Handshake handshake = read_handshake(*request->head);
    if (handshake.verdict == Handshake::Verdict::kNotWebSocket) {
        if (asks_for_websocket(*request->head)) core->limits.refused(Refusal::kHandshakeInvalid);
        Py_RETURN_FALSE;
    }
    ServerCore::DispatchScope entry(*core);
    if (handshake.verdict == Handshake::Verdict::kWrongVersion) {
        // RFC 6455 4.4
        static constexpr std::pair<std::string_view, std::string_view> fields[] = {
            {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Content-Type", "text/plain;charset=utf-8"}};
        core->limits.refused(Refusal::kHandshakeVersion);
        send_response(*request->conn, "426 Upgrade Required", fields, "WebSocket version 13 is required", nullptr);
        Py_RETURN_FALSE;
    }
    std::string protocol;
    bool is_unknown = false;
    if (!selects_none && !choose_protocol(*core, handshake, asked, &protocol, &is_unknown)) return nullptr;
    ExtensionAnswer extensions = negotiate_extensions(*request->head, core->options.deflate);
    Ref handle = Ref::steal(as_object(new_handle(*core, given[2] ? given[2] : Py_None, protocol)));
    if (!handle) return nullptr;
    Ref context = context_for(*core, request, false);
    if (!context && PyErr_Occurred()) return nullptr;
    // Making the handle may have run a finaliser that answered the request, or stopped the server.
    if (!is_open(request) || core->stop.has_started()) Py_RETURN_FALSE;
    HttpConnection &conn = *request->conn;
    WsObject *ws = as_ws(handle.get());
    ws->context = context.release();
    ws->ip_length = request->client.ip_length;
    memcpy(ws->ip, request->client.ip, sizeof(ws->ip));
    PerSocket user;
    user.handle = handle.get();  // the instance's reference, given back at close
    user.compression = extensions.agreed;
    // Takes memory, so it is made while the request can still be answered.
    const UpgradeAnswer answer{std::string(handshake.key), protocol, extensions.field, headers.fields(), user};
    core->on_settled(conn);
    try {
        upgrade_to_websocket(conn, answer);
    } catch (...) {
        if (ws->id) handle.release();  // the socket was opened: the instance owns the handle
        throw;
    }
    handle.release();
    if (is_unknown && core->on_unknown_protocol) [[unlikely]]
        report_unknown_protocol(*core, protocol);
    Py_RETURN_TRUE;
}

PyObject *request_ip(PyObject *self, PyObject *object) {
    ServerCore *core = core_of(self);
    RequestObject *request = core ? read_request(core, object, "Server.request_ip") : nullptr;
    if (!request) return nullptr;
    if (!request->client.ip_length) Py_RETURN_NONE;
    return make_socket_address(*core->state, request->client);
}

PyObject *timeout(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    static constexpr const char *const parameters[] = {"request", "seconds"};
    ServerCore *core = core_of(self);
    PyObject *given[2];
    if (!core || !read_args("Server.timeout", args, count, names, parameters, 2, 2, given)) return nullptr;
    RequestObject *request = read_request(core, given[0], "Server.timeout");
    if (!request) return nullptr;
    if (!PyLong_Check(given[1]) || PyBool_Check(given[1])) {
        PyErr_Format(PyExc_TypeError, "seconds must be int, not %.200s", Py_TYPE(given[1])->tp_name);
        return nullptr;
    }
    int overflow = 0;
    long seconds = PyLong_AsLongAndOverflow(given[1], &overflow);
    if (overflow || seconds < 0 || seconds > 86400) {
        PyErr_Format(PyExc_ValueError, "seconds must be in 0..86400, got %R", given[1]);
        return nullptr;
    }
    if (request->conn && !request->conn->s->closed) set_request_timeout(*request->conn, static_cast<unsigned>(seconds));
    Py_RETURN_NONE;
}

}  // namespace

// --- from HttpConnections ---

void ServerCore::on_request(HttpConnection &conn) {
    gil.ensure();
    if (running_handlers.refuses_requests()) [[unlikely]] {
        limits.refused(Refusal::kConcurrentHandlers);
        send_response(conn, "503 Service Unavailable", kRetryAfter, std::string_view(), nullptr);
        return;
    }
    RequestObject *request = new_request(*this, conn);
    if (!request) {
        log_failure(Origin::kRequest);
        send_response(conn, "500 Internal Server Error", {}, std::string_view(), nullptr);
        return;
    }
    Ref keep = Ref::steal(as_object(request));
    conn.request = Py_NewRef(keep.get());  // ended by on_settled
    Ref hook = Ref::borrow(dispatch.get()), result;
    {
        RequestScope scope(*this, request);
        if (hook && scope) result = Ref::steal(guarded<PyObject_CallOneArg>(hook.get(), keep.get()));
        if (hook && !result) log_failure(Origin::kFetch);
    }
    if (is_open(request) && !(result && request->deferred)) {
        send_response(*request->conn, "500 Internal Server Error", {}, "Internal Server Error", nullptr);
    }
}

void ServerCore::on_settled(HttpConnection &conn) {
    gil.ensure();
    RequestObject *request = request_of(conn);
    if (!request) return;
    conn.request = nullptr;
    request->conn = nullptr;
    Ref dropped = Ref::steal(as_object(request));
}

PyMethodDef kFacadeMethods[] = {
    {"respond", raw_fastcall<respond>(), METH_FASTCALL, docs::kServerControl_respond},
    {"defer", raw_call<defer>, METH_O, docs::kServerControl_defer},
    {"_call_for", raw_fastcall<call_for>(), METH_FASTCALL, docs::kServerControl_call_for},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef kAnswerMethods[] = {
    {"upgrade", raw_fastcall<upgrade>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerCore_upgrade},
    {"request_ip", raw_call<request_ip>, METH_O, docs::kServerCore_request_ip},
    {"timeout", raw_fastcall<timeout>(), METH_FASTCALL | METH_KEYWORDS, docs::kServerCore_timeout},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
