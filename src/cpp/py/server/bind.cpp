// ServerCore as a Python class: the cold half, by pybind11. The hot methods are raw and added to the same type.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "py/server/bind.h"
#include "py/coroutines/start.h"
#include "py/request/answers.h"
#include "py/request/streams.h"
#include "py/server/server_object.h"
#include "py/server/topic_methods.h"
#include "py/websocket/object.h"
#include "docstrings.h"

namespace py = pybind11;

namespace uwserve {

namespace {

// What a call of ours that has set a Python exception becomes on the way through pybind11.
void check(bool ok) {
    if (!ok) throw py::error_already_set();
}

Ref optional(const py::object &object) { return object.is_none() ? Ref() : Ref::borrow(object.ptr()); }

void set_hooks(py::object self, py::object dispatch, py::object log_exception, py::object on_stopped,
               py::object on_refused, py::object on_event_loop_wanted, py::object on_unknown_protocol) {
    auto &core = self.cast<ServerCore &>();
    if (core.instance || core.finished) throw std::runtime_error("this server was already bound");
    core.self = self.ptr();
    core.dispatch = optional(dispatch);
    core.log_exception = optional(log_exception);
    core.on_stopped = optional(on_stopped);
    core.on_refused = optional(on_refused);
    core.on_event_loop_wanted = optional(on_event_loop_wanted);
    core.on_unknown_protocol = optional(on_unknown_protocol);
}

// Both directions by the names of the option.
DeflateOptions deflate_options(const std::pair<std::string, std::string> &names) {
    auto compress = compress_side(names.first), decompress = decompress_side(names.second);
    if (!compress || !decompress) throw py::value_error("per_message_deflate: unknown name");
    return {*compress, *decompress};
}

void set_websocket(ServerCore &core, py::object open, py::object message, py::object close, py::object drain,
                   py::object ping, py::object pong, py::object error, unsigned max_payload_length,
                   unsigned idle_timeout, unsigned ping_interval, unsigned max_lifetime, size_t backpressure_limit,
                   bool close_on_backpressure_limit, bool send_pings, bool publish_to_self, bool serial,
                   uint32_t max_concurrent_handlers, const std::pair<std::string, std::string> &per_message_deflate,
                   std::optional<std::vector<std::string>> protocols, bool enabled) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    WebSocketOptions options;
    options.open = optional(open);
    options.message = optional(message);
    options.close = optional(close);
    options.drain = optional(drain);
    options.ping = optional(ping);
    options.pong = optional(pong);
    options.error = optional(error);
    options.max_payload_length = max_payload_length;
    options.idle_timeout = idle_timeout;
    options.ping_interval = ping_interval;
    options.max_lifetime = max_lifetime;
    options.backpressure_limit = backpressure_limit ? backpressure_limit : kMaxBacklogBytes;
    options.close_on_backpressure_limit = close_on_backpressure_limit;
    options.send_pings = send_pings;
    options.publish_to_self = publish_to_self;
    options.serial = serial;
    options.max_concurrent_handlers = max_concurrent_handlers;
    options.deflate = deflate_options(per_message_deflate);
    options.protocols = std::move(protocols);
    options.enabled = enabled;
    std::swap(core.options, options);
    core.apply_options();
}

// No other option is touched, and nothing is applied anew.
void set_message_handler(ServerCore &core, py::object handler) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server._set_message_handler"));
    Ref old = std::exchange(core.options.message, optional(handler));
}

void set_http(ServerCore &core, unsigned idle_timeout, unsigned keep_alive_timeout, uint32_t min_body_rate,
              uint64_t max_request_body_size) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    core.http_idle_timeout = idle_timeout;
    core.keep_alive_timeout = keep_alive_timeout;
    core.min_body_rate = min_body_rate;
    core.max_request_body_size = max_request_body_size;
    core.apply_options();
}

void set_proxies(ServerCore &core, const std::vector<std::pair<py::bytes, unsigned>> &networks, bool local,
                 const std::string &field, bool proxy_protocol) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    std::vector<us_network_t> list;
    for (const auto &[address, prefix] : networks) {
        std::string_view bytes = address;
        if ((bytes.size() != 4 && bytes.size() != 16) || prefix > bytes.size() * 8)
            throw py::value_error("a network is 4 or 16 bytes and a prefix that fits them");
        us_network_t network{};
        std::copy(bytes.begin(), bytes.end(), network.address);
        network.length = static_cast<uint8_t>(bytes.size());
        network.prefix = static_cast<uint8_t>(prefix);
        list.push_back(network);
    }
    ForwardedField believed = field == "x-forwarded-for" ? ForwardedField::kXForwardedFor
                              : field == "forwarded"     ? ForwardedField::kForwarded
                                                         : ForwardedField::kNone;
    core.limits.proxies = TrustedProxies(std::move(list), local, believed);
    core.proxy_protocol = proxy_protocol;
    core.apply_options();
}

void set_limits(ServerCore &core, uint32_t max_connections, uint32_t max_connections_per_address, bool exempt_local,
                uint32_t max_pending_heads, uint32_t max_control_frames_per_second,
                uint32_t max_tiny_fragments_per_second, uint64_t max_buffered_bytes, uint64_t max_concurrent_handlers,
                uint32_t reserved_descriptors, uint32_t max_descriptors, unsigned report_ms) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    core.limits.figures = {max_connections,    max_connections_per_address,   exempt_local,
                           max_pending_heads,  max_control_frames_per_second, max_tiny_fragments_per_second,
                           max_buffered_bytes, max_concurrent_handlers,       0};
    if (reserved_descriptors && max_descriptors)
        core.limits.figures.first_reserved_fd = max_descriptors - std::min(reserved_descriptors, max_descriptors - 1);
    core.limits.refusals.period_ms = report_ms;
    core.apply_options();
}

void set_tls(ServerCore &core, const TlsConfig &config) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    check(core.set_tls(config.native));
}

py::list addresses(const ServerCore &core) {
    py::list list;
    for (const us_listen_address_t &where : core.addresses())
        list.append(py::make_tuple(py::bytes(where.text, static_cast<size_t>(where.length)), where.port));
    return list;
}

py::list listen_tcp(ServerCore &core, const std::vector<std::string> &hosts, int port, bool reuse_port,
                    bool ipv6_only) {
    check(core.listen_tcp(hosts, port, reuse_port, ipv6_only));
    return addresses(core);
}

py::list listen_unix(ServerCore &core, const py::bytes &path, int mode) {
    check(core.listen_unix(std::string_view(path), mode));
    return addresses(core);
}

py::list listen_fds(ServerCore &core, const std::vector<int> &fds) {
    check(core.listen_fds(fds));
    return addresses(core);
}

// TypeError or ValueError for what close() would refuse.
void check_close(const py::object &code, const py::object &reason) {
    long status = 0;
    std::string text;
    check(read_close_code(code.ptr(), &status) && read_close_reason(reason.ptr(), &text));
}

void stop_within(ServerCore &core, double seconds, const py::object &code, const py::object &reason) {
    long status = 0;
    std::string text;
    check(read_close_code(code.ptr(), &status) && read_close_reason(reason.ptr(), &text));
    check(core.stop.start_within(seconds, static_cast<int>(status), std::move(text)));
}

void call_soon(py::object self, py::object fn, const py::args &args) {
    auto &core = self.cast<ServerCore &>();
    if (!PyCallable_Check(fn.ptr())) throw py::type_error("fn must be callable");
    check(core.post_call(Ref::borrow(fn.ptr()), Ref::borrow(args.ptr()), "Server.call_soon"));
}

// No coroutine is being started on this stack, and no other thread runs the loop.
void check_can_change_event_loop(ServerCore &core, const char *call) {
    if (!core.on_loop_thread()) check(core.refuse_thread(call));
    if (core.coroutines.is_busy()) throw std::runtime_error(std::string(call) + ": a coroutine is being started");
}

// For the event loop that a server runs in; what the facade does with them is in _modes.py.
void bind_event_loop(py::class_<ServerCore> &type) {
    type.def("attach_core",
             [](ServerCore &core) {
        check(core.attach_loop());
        return core.descriptor();
    }, docs::pybind::kServerCore_attach_core)
        .def("pump",
             [](ServerCore &core) {
        ServerCore::Pumped pumped;
        check(core.pump(&pumped));
        return static_cast<int>(pumped);
    }, docs::pybind::kServerCore_pump)
        .def("loop_reader",
             [](ServerCore &core, py::object on_end) {
        auto reader = py::reinterpret_steal<py::object>(new_loop_reader(core, on_end.ptr()));
        if (!reader) throw py::error_already_set();
        return reader;
    }, py::arg("on_end"), docs::pybind::kServerCore_loop_reader)
        .def("detach_core", [](ServerCore &core) { check(core.detach_loop()); }, docs::pybind::kServerCore_detach_core)
        .def("set_event_loop",
             [](ServerCore &core, py::object loop, py::object tools) {
        check_can_change_event_loop(core, "Server.set_event_loop");
        check(core.coroutines.set_loop(loop.ptr(), tools.ptr()));
    }, py::arg("loop"), py::arg("tools"), docs::pybind::kServerCore_set_event_loop)
        .def("forget_event_loop",
             [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_event_loop");
        core.coroutines.forget_loop();
    }, docs::pybind::kServerCore_forget_event_loop)
        .def("cancel_tasks",
             [](ServerCore &core) {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.cancel_tasks"));
        core.coroutines.cancel_tasks();
    }, docs::pybind::kServerCore_cancel_tasks)
        .def("forget_tasks", [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_tasks");
        core.coroutines.forget_tasks();
    }, docs::pybind::kServerCore_forget_tasks);
    type.def_property_readonly("tasks", [](ServerCore &core) -> py::object {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.tasks"));
        PyObject *tasks = core.coroutines.tasks();
        py::object copy = py::reinterpret_steal<py::object>(PyFrozenSet_New(tasks));
        if (!copy) throw py::error_already_set();
        return copy;
    }, docs::kServerCore_tasks);
}

void bind_properties(py::class_<ServerCore> &type) {
    auto property = [&type](const char *name, auto get, const char *doc) {
        type.def_property_readonly(name, get, doc);
    };
    property("local_port", [](const ServerCore &core) { return core.local_port; }, docs::kServerCore_local_port);
    property("pending_requests", [](const ServerCore &core) {
        return core.instance ? core.instance->connections().pending.load() : 0u;
    }, docs::kServerCore_pending_requests);
    property("pending_websockets", [](const ServerCore &core) { return core.pending_websockets; },
             docs::kServerCore_pending_websockets);
    property("buffered_bytes", [](const ServerCore &core) { return core.limits.buffered_bytes(); },
             docs::kServerCore_buffered_bytes);
    property("running", [](const ServerCore &core) { return core.running(); }, docs::kServerCore_running);
    property("stopping", [](const ServerCore &core) { return core.stop.has_started(); }, docs::kServerCore_stopping);
    property("forced", [](const ServerCore &core) { return core.stop.is_forced(); }, docs::kServerCore_forced);
    property("finished", [](const ServerCore &core) { return core.finished; }, docs::kServerCore_finished);
    property("compressions", [](const ServerCore &core) {
        return core.instance ? core.instance->codecs().compressions : 0;
    }, docs::kServerCore_compressions);
    property("live_handles", [](const ServerCore &core) { return core.state->live_handles; },
             docs::kServerCore_live_handles);
}

// pybind11's classes are not garbage collected by themselves; this one holds the user's handlers.
void make_collectable(PyHeapTypeObject *heap_type) {
    PyTypeObject *type = &heap_type->ht_type;
    type->tp_flags |= Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = [](PyObject *object, visitproc visit, void *arg) {
        Py_VISIT(Py_TYPE(object));
        if (!py::detail::is_holder_constructed(object)) return 0;
        return py::cast<ServerCore &>(py::handle(object)).traverse(visit, arg);
    };
    type->tp_clear = [](PyObject *object) {
        if (py::detail::is_holder_constructed(object)) py::cast<ServerCore &>(py::handle(object)).clear();
        return 0;
    };
}

}  // namespace

ServerCore *core_of(PyObject *object) {
    if (!py::isinstance<ServerCore>(object)) {
        PyErr_SetString(PyExc_TypeError, "not a server");
        return nullptr;
    }
    return initialised<ServerCore>(object);
}

void bind_server(py::module_ &module, ModuleState *state) {
    py::options plain_docs;
    plain_docs.disable_function_signatures();
    py::class_<ServerCore> type(module, "ServerCore", py::custom_type_setup(make_collectable), docs::kServerCore);
    type.def(py::init([state] { return std::make_unique<ServerCore>(state); }), docs::pybind::kServerCore_init)
        .def("set_hooks", &set_hooks, py::arg("dispatch"), py::arg("log_exception"), py::arg("on_stopped"),
             py::arg("on_refused"), py::arg("on_event_loop_wanted"), py::arg("on_unknown_protocol") = py::none(),
             docs::pybind::kServerCore_set_hooks)
        .def("set_websocket", &set_websocket, py::kw_only(), py::arg("open"), py::arg("message"), py::arg("close"),
             py::arg("drain"), py::arg("ping"), py::arg("pong"), py::arg("error"), py::arg("max_payload_length"),
             py::arg("idle_timeout"), py::arg("ping_interval"), py::arg("max_lifetime"), py::arg("backpressure_limit"),
             py::arg("close_on_backpressure_limit"), py::arg("send_pings"), py::arg("publish_to_self"),
             py::arg("serial"), py::arg("max_concurrent_handlers"), py::arg("per_message_deflate"),
             py::arg("protocols"), py::arg("enabled"), docs::pybind::kServerCore_set_websocket)
        .def("_set_message_handler", &set_message_handler, py::arg("handler"),
             docs::pybind::kServerCore_set_message_handler)
        .def("set_http", &set_http, py::kw_only(), py::arg("idle_timeout"), py::arg("keep_alive_timeout"),
             py::arg("min_body_rate"), py::arg("max_request_body_size"), docs::pybind::kServerCore_set_http)
        .def("set_proxies", &set_proxies, py::kw_only(), py::arg("networks"), py::arg("local"), py::arg("field"),
             py::arg("proxy_protocol"), docs::pybind::kServerCore_set_proxies)
        .def("set_limits", &set_limits, py::kw_only(), py::arg("max_connections"),
             py::arg("max_connections_per_address"), py::arg("exempt_local"), py::arg("max_pending_heads"),
             py::arg("max_control_frames_per_second"), py::arg("max_tiny_fragments_per_second"),
             py::arg("max_buffered_bytes"), py::arg("max_concurrent_handlers"), py::arg("reserved_descriptors"),
             py::arg("max_descriptors"), py::arg("report_ms"), docs::pybind::kServerCore_set_limits)
        .def("set_tls", &set_tls, py::arg("config"), docs::pybind::kServerCore_set_tls)
        .def("listen_tcp", &listen_tcp, py::arg("hosts"), py::arg("port"), py::arg("reuse_port"), py::arg("ipv6_only"),
             docs::pybind::kServerCore_listen_tcp)
        .def("listen_unix", &listen_unix, py::arg("path"), py::arg("mode"), docs::pybind::kServerCore_listen_unix)
        .def("listen_fds", &listen_fds, py::arg("fds"), docs::pybind::kServerCore_listen_fds)
        .def("listening_descriptors",
             [](ServerCore &core) {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.listening_descriptors"));
        return core.listening_descriptors();
    }, docs::pybind::kServerCore_listening_descriptors)
        .def("run_loop",
             [](ServerCore &core, int signal_fd, py::handle rearm_signals) {
        check(core.run(signal_fd, rearm_signals.ptr()));
    }, py::arg("signal_fd") = -1, py::arg("rearm_signals") = py::none(), docs::pybind::kServerCore_run_loop)
        .def("stop_core", [](ServerCore &core, bool force) { check(core.stop.start(force)); },
             py::arg("close_active_connections"), docs::pybind::kServerCore_stop_core)
        .def_static("check_close", &check_close, py::arg("code"), py::arg("reason"), docs::kServerCore_check_close)
        .def("stop_within", &stop_within, py::arg("seconds"), py::arg("code"), py::arg("reason"),
             docs::pybind::kServerCore_stop_within)
        .def("call_soon", &call_soon, py::arg("fn"), docs::pybind::kServerCore_call_soon);
    bind_event_loop(type);
    bind_properties(type);
    bind_stats(type);
    static PyMethodDef class_getitem = {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
                                        docs::kServerWebSocket_class_getitem};
    py::object subscript = py::reinterpret_steal<py::object>(
        PyDescr_NewClassMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), &class_getitem));
    if (!subscript) throw py::error_already_set();
    type.attr("__class_getitem__") = subscript;
    // A copy or a pickle would be an object without a server in it.
    static PyMethodDef no_copies[] = {{"__reduce_ex__", raw_call<refuse_copy>, METH_O, nullptr},
                                      {nullptr, nullptr, 0, nullptr}};
    for (PyMethodDef *method : {no_copies, kAnswerMethods, kStreamMethods, kServerTopicMethods, kCoroutineMethods}) {
        for (; method->ml_name; method++) {
            auto descriptor = py::reinterpret_steal<py::object>(
                PyDescr_NewMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), method));
            if (!descriptor) throw py::error_already_set();
            type.attr(method->ml_name) = descriptor;
        }
    }
}

}  // namespace uwserve
