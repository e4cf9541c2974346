// A server as two Python classes, by pybind11: ServerCore has what users call, ServerControl what the facade calls. Both are
// methods of the same C++ object. The hot methods are raw and added to the types.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "py/server/bind.h"
#include "py/coroutines/first_step.h"
#include "py/request/answers.h"
#include "py/request/streams.h"
#include "py/server/server_object.h"
#include "py/server/topic_methods.h"
#include "py/websocket/control.h"
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

void set_hooks(const py::object &self, py::object dispatch, py::object log_exception, py::object on_stopped,
               py::object on_refused, py::object on_event_loop_wanted, py::object on_unknown_protocol) {
    auto &core = self.cast<ServerCore &>();
    if (core.instance || core.finished) throw std::runtime_error("this server was already bound");
    core.self = self.cast<ServerControl &>().server.get();
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

// An option by its name in the facade's tables, which have checked it.
template <typename T>
T option(const py::dict &options, const char *name) {
    return options[name].cast<T>();
}

// None: serve() was given no `websocket`, and every upgrade() returns False.
WebSocketOptions websocket_options(const py::object &given) {
    WebSocketOptions options;
    if (given.is_none()) return options;
    auto from = given.cast<py::dict>();
    auto handler = [&from](const char *name) { return optional(option<py::object>(from, name)); };
    options.open = handler("open");
    options.message = handler("message");
    options.close = handler("close");
    options.drain = handler("drain");
    options.ping = handler("ping");
    options.pong = handler("pong");
    options.error = handler("error");
    options.serial = option<bool>(from, "serial");
    options.max_concurrent_handlers = option<uint32_t>(from, "max_concurrent_handlers");
    options.deflate = deflate_options(option<std::pair<std::string, std::string>>(from, "per_message_deflate"));
    options.protocols = option<std::optional<std::vector<std::string>>>(from, "protocols");
    options.enabled = true;
    return options;
}

WebSocketSettings websocket_settings(const py::object &given) {
    WebSocketSettings settings;
    if (given.is_none()) return settings;
    auto from = given.cast<py::dict>();
    settings.max_payload_length = option<unsigned>(from, "max_payload_length");
    settings.idle_timeout = option<unsigned>(from, "idle_timeout");
    settings.ping_interval = option<unsigned>(from, "ping_interval");
    settings.max_lifetime = option<unsigned>(from, "max_lifetime");
    settings.send_pings = option<bool>(from, "send_pings");
    auto backpressure_limit = option<size_t>(from, "backpressure_limit");
    settings.backpressure_limit = backpressure_limit ? backpressure_limit : kUnlimitedBackpressure;
    settings.close_on_backpressure_limit = option<bool>(from, "close_on_backpressure_limit");
    settings.publish_to_self = option<bool>(from, "publish_to_self");
    return settings;
}

TrustedProxies trusted_proxies(const py::dict &from) {
    std::vector<us_network_t> list;
    for (const auto &[address, prefix] : option<std::vector<std::pair<py::bytes, unsigned>>>(from, "networks")) {
        std::string_view bytes = address;
        if ((bytes.size() != 4 && bytes.size() != 16) || prefix > bytes.size() * 8)
            throw py::value_error("a network is 4 or 16 bytes and a prefix that fits them");
        us_network_t network{};
        std::copy(bytes.begin(), bytes.end(), network.address);
        network.length = static_cast<uint8_t>(bytes.size());
        network.prefix = static_cast<uint8_t>(prefix);
        list.push_back(network);
    }
    auto field = option<std::string>(from, "forwarded_header");
    ForwardedField believed = field == "x-forwarded-for" ? ForwardedField::kXForwardedFor
                              : field == "forwarded"     ? ForwardedField::kForwarded
                                                         : ForwardedField::kNone;
    return {std::move(list), option<bool>(from, "unix"), believed};
}

LimitFigures limit_figures(const py::dict &from) {
    LimitFigures figures;
    figures.max_connections = option<uint32_t>(from, "max_connections");
    figures.max_connections_per_address = option<uint32_t>(from, "max_connections_per_address");
    figures.exempt_local = option<bool>(from, "exempt_local");
    figures.max_pending_heads = option<uint32_t>(from, "max_pending_heads");
    figures.max_control_frames_per_second = option<uint32_t>(from, "max_control_frames_per_second");
    figures.max_tiny_fragments_per_second = option<uint32_t>(from, "max_tiny_fragments_per_second");
    figures.max_buffered_bytes = option<uint64_t>(from, "max_buffered_bytes");
    figures.max_concurrent_handlers = option<uint64_t>(from, "max_concurrent_handlers");
    auto reserved = option<uint32_t>(from, "reserved_descriptors"), all = option<uint32_t>(from, "max_descriptors");
    if (reserved && all) figures.first_reserved_fd = all - std::min(reserved, all - 1);
    return figures;
}

// Everything is read before anything changes, and takes effect at once.
void configure(ServerCore &core, const py::dict &options) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server.reload"));
    auto given = option<py::object>(options, "websocket");
    WebSocketOptions websocket = websocket_options(given);
    WebSocketSettings settings = websocket_settings(given);
    auto idle_timeout = option<unsigned>(options, "idle_timeout");
    auto keep_alive_timeout = option<unsigned>(options, "keep_alive_timeout");
    auto min_body_rate = option<uint32_t>(options, "min_body_rate");
    auto max_request_body_size = option<uint64_t>(options, "max_request_body_size");
    auto proxies = option<py::dict>(options, "proxies");
    TrustedProxies trusted = trusted_proxies(proxies);
    bool proxy_protocol = option<bool>(proxies, "proxy_protocol");
    auto limits = option<py::dict>(options, "limits");
    LimitFigures figures = limit_figures(limits);
    auto report_ms = option<unsigned>(limits, "report_ms");
    auto tls = option<py::object>(options, "tls");
    if (!tls.is_none()) check(core.set_tls(tls.cast<const TlsConfig &>().native));
    std::swap(core.options, websocket);  // the old handlers go at the end: their finalisers are code of other people
    core.limits.websocket = settings;
    core.http_idle_timeout = idle_timeout;
    core.keep_alive_timeout = keep_alive_timeout;
    core.min_body_rate = min_body_rate;
    core.max_request_body_size = max_request_body_size;
    core.limits.proxies = std::move(trusted);
    core.proxy_protocol = proxy_protocol;
    core.limits.figures = figures;
    core.limits.refusals.period_ms = report_ms;
    core.apply_options();
}

// No other option is touched, and nothing is applied anew.
void set_message_handler(ServerCore &core, py::object handler) {
    if (!core.on_loop_thread()) check(core.refuse_thread("Server._set_message_handler"));
    Ref old = std::exchange(core.options.message, optional(handler));
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

// For the event loop that a server runs in; the facade calls them in _run/event_loop.py.
void bind_event_loop(py::class_<ServerControl> &type) {
    type.def("attach_core",
             [](ServerCore &core) {
        check(core.attach_loop());
        return core.descriptor();
    }, docs::pybind::kServerControl_attach_core)
        .def("pump",
             [](ServerCore &core) {
        ServerCore::Pumped pumped;
        check(core.pump(&pumped));
        return static_cast<int>(pumped);
    }, docs::pybind::kServerControl_pump)
        .def("loop_reader",
             [](ServerCore &core, py::object on_end) {
        auto reader = py::reinterpret_steal<py::object>(new_loop_reader(core, on_end.ptr()));
        if (!reader) throw py::error_already_set();
        return reader;
    }, py::arg("on_end"), docs::pybind::kServerControl_loop_reader)
        .def("detach_core", [](ServerCore &core) { check(core.detach_loop()); },
             docs::pybind::kServerControl_detach_core)
        .def("set_event_loop",
             [](ServerCore &core, py::object loop, py::object tools) {
        check_can_change_event_loop(core, "Server.set_event_loop");
        check(core.coroutines.set_loop(loop.ptr(), tools.ptr()));
    }, py::arg("loop"), py::arg("tools"), docs::pybind::kServerControl_set_event_loop)
        .def("forget_event_loop",
             [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_event_loop");
        core.coroutines.forget_loop();
    }, docs::pybind::kServerControl_forget_event_loop)
        .def("cancel_tasks",
             [](ServerCore &core) {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.cancel_tasks"));
        core.coroutines.cancel_tasks();
    }, docs::pybind::kServerControl_cancel_tasks)
        .def("forget_tasks", [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_tasks");
        core.coroutines.forget_tasks();
    }, docs::pybind::kServerControl_forget_tasks);
}

void bind_properties(py::class_<ServerCore> &type, py::class_<ServerControl> &control) {
    auto property = [&type](const char *name, auto get, const char *doc) {
        type.def_property_readonly(name, get, doc);
    };
    property("pending_requests", [](const ServerCore &core) {
        return core.instance ? core.instance->connections().pending.load() : 0u;
    }, docs::kServerCore_pending_requests);
    property("pending_websockets", [](const ServerCore &core) { return core.pending_websockets; },
             docs::kServerCore_pending_websockets);
    property("buffered_bytes", [](const ServerCore &core) { return core.limits.buffered_bytes(); },
             docs::kServerCore_buffered_bytes);
    property("running", [](const ServerCore &core) { return core.running(); }, docs::kServerCore_running);
    property("stopping", [](const ServerCore &core) { return core.stop.has_started(); }, docs::kServerCore_stopping);
    property("finished", [](const ServerCore &core) { return core.finished; }, docs::kServerCore_finished);
    property("tasks", [](ServerCore &core) -> py::object {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.tasks"));
        PyObject *tasks = core.coroutines.tasks();
        py::object copy = py::reinterpret_steal<py::object>(PyFrozenSet_New(tasks));
        if (!copy) throw py::error_already_set();
        return copy;
    }, docs::kServerCore_tasks);
    control.def_property_readonly("local_port", [](const ServerCore &core) { return core.local_port; },
                                  docs::kServerControl_local_port);
    control.def_property_readonly("forced", [](const ServerCore &core) { return core.stop.is_forced(); },
                                  docs::kServerControl_forced);
    control.def_property_readonly("compressions", [](const ServerCore &core) {
        return core.instance ? core.instance->codecs().compressions : 0;
    }, docs::kServerControl_compressions);
}

// pybind11's classes are not garbage collected by themselves; these hold the user's handlers, and the server.
template <typename T>
void make_collectable(PyHeapTypeObject *heap_type) {
    PyTypeObject *type = &heap_type->ht_type;
    type->tp_flags |= Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = [](PyObject *object, visitproc visit, void *arg) {
        Py_VISIT(Py_TYPE(object));
        if (!py::detail::is_holder_constructed(object)) return 0;
        return initialised<T>(object)->traverse(visit, arg);
    };
    type->tp_clear = [](PyObject *object) {
        if (py::detail::is_holder_constructed(object)) initialised<T>(object)->clear();
        return 0;
    };
}

template <typename T>
void add_methods(py::class_<T> &type, std::initializer_list<PyMethodDef *> tables) {
    // A copy or a pickle would be an object without a server in it.
    static PyMethodDef no_copies[] = {{"__reduce_ex__", raw_call<refuse_copy>, METH_O, nullptr},
                                      {nullptr, nullptr, 0, nullptr}};
    auto add = [&type](PyMethodDef *method) {
        for (; method->ml_name; method++) {
            auto descriptor = py::reinterpret_steal<py::object>(
                PyDescr_NewMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), method));
            if (!descriptor) throw py::error_already_set();
            type.attr(method->ml_name) = descriptor;
        }
    };
    add(no_copies);
    for (PyMethodDef *table : tables) add(table);
}

py::class_<ServerControl> bind_control(py::module_ &module) {
    py::class_<ServerControl> type(module, "ServerControl", py::custom_type_setup(make_collectable<ServerControl>),
                                   docs::kServerControl);
    type.def(py::init([](const py::object &server) {
        ServerCore *core = core_of(server.ptr());
        check(core != nullptr);
        return std::make_unique<ServerControl>(Ref::borrow(server.ptr()), core);
    }),
             py::arg("server"), docs::pybind::kServerControl_init)
        .def("set_hooks", &set_hooks, py::arg("dispatch"), py::arg("log_exception"), py::arg("on_stopped"),
             py::arg("on_refused"), py::arg("on_event_loop_wanted"), py::arg("on_unknown_protocol") = py::none(),
             docs::pybind::kServerControl_set_hooks)
        .def("configure", &configure, py::arg("options"), docs::pybind::kServerControl_configure)
        .def("_set_message_handler", &set_message_handler, py::arg("handler"),
             docs::pybind::kServerControl_set_message_handler)
        .def("listen_tcp", &listen_tcp, py::arg("hosts"), py::arg("port"), py::arg("reuse_port"), py::arg("ipv6_only"),
             docs::pybind::kServerControl_listen_tcp)
        .def("listen_unix", &listen_unix, py::arg("path"), py::arg("mode"), docs::pybind::kServerControl_listen_unix)
        .def("listen_fds", &listen_fds, py::arg("fds"), docs::pybind::kServerControl_listen_fds)
        .def("listening_descriptors",
             [](ServerCore &core) {
        if (!core.on_loop_thread()) check(core.refuse_thread("Server.listening_descriptors"));
        return core.listening_descriptors();
    }, docs::pybind::kServerControl_listening_descriptors)
        .def("run_loop",
             [](ServerCore &core, int signal_fd, py::handle rearm_signals) {
        check(core.run(signal_fd, rearm_signals.ptr()));
    }, py::arg("signal_fd") = -1, py::arg("rearm_signals") = py::none(), docs::pybind::kServerControl_run_loop)
        .def("stop_core", [](ServerCore &core, bool force) { check(core.stop.start(force)); },
             py::arg("close_active_connections"), docs::pybind::kServerControl_stop_core)
        .def_static("check_close", &check_close, py::arg("code"), py::arg("reason"), docs::kServerControl_check_close)
        .def("stop_within", &stop_within, py::arg("seconds"), py::arg("code"), py::arg("reason"),
             docs::pybind::kServerControl_stop_within);
    bind_event_loop(type);
    add_methods(type, {kFacadeMethods, kStreamMethods, kCoroutineMethods});
    return type;
}

}  // namespace

ServerCore *core_of(PyObject *object) {
    if (!py::isinstance<ServerCore>(object)) {
        PyErr_SetString(PyExc_TypeError, "not a server");
        return nullptr;
    }
    return initialised<ServerCore>(object);
}

ServerCore *controlled_core(PyObject *object) {
    auto *control = initialised<ServerControl>(object);
    if (control && !control->core) PyErr_SetString(PyExc_TypeError, "the server of this control object is gone");
    return control ? control->core : nullptr;
}

void bind_server(py::module_ &module, ModuleState *state) {
    py::options plain_docs;
    plain_docs.disable_function_signatures();
    py::class_<ServerCore> type(module, "ServerCore", py::custom_type_setup(make_collectable<ServerCore>),
                                docs::kServerCore);
    type.def(py::init([state] { return std::make_unique<ServerCore>(state); }), docs::pybind::kServerCore_init)
        .def("call_soon", &call_soon, py::arg("fn"), docs::pybind::kServerCore_call_soon);
    py::class_<ServerControl> control = bind_control(module);
    bind_properties(type, control);
    bind_stats(type, control);
    static PyMethodDef class_getitem = {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
                                        docs::kServerWebSocket_class_getitem};
    py::object subscript = py::reinterpret_steal<py::object>(
        PyDescr_NewClassMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), &class_getitem));
    if (!subscript) throw py::error_already_set();
    type.attr("__class_getitem__") = subscript;
    add_methods(type, {kAnswerMethods, kServerTopicMethods});
    module.def("live_handles", [state] { return state->live_handles; }, docs::klive_handles);
}

}  // namespace uwserve
