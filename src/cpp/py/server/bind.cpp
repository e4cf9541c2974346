#include "py/server/bind.h"

#include <netdb.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "py/coroutines/first_step.h"
#include "py/request/answers.h"
#include "py/request/streams.h"
#include "py/server/loop_reader.h"
#include "py/server/stats.h"
#include "py/server/topic_methods.h"
#include "py/websocket/control.h"
#include "py/websocket/object.h"
#include "docstrings.h"

namespace py = pybind11;

namespace uwserve {

namespace {

// A new reference, or an exception that is set.
py::object owned(PyObject *object) {
    check(object != nullptr);
    return py::reinterpret_steal<py::object>(object);
}

Ref optional(const py::object &object) { return object.is_none() ? Ref() : Ref::borrow(object.ptr()); }

void set_hooks(const py::object &self, py::object dispatch, py::object log_exception, py::object on_stopped,
               py::object on_refused, py::object on_event_loop_wanted, py::object on_unknown_protocol) {
    auto &core = self.cast<ServerCore &>();
    if (core.instance || core.finish.is_done()) throw std::runtime_error("this server was already bound");
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

// An option by its name in the facade's tables, which have checked the value.
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
    std::vector<Network> list;
    for (const auto &[address, prefix] : option<std::vector<std::pair<py::bytes, unsigned>>>(from, "networks")) {
        std::string_view bytes = address;
        if ((bytes.size() != 4 && bytes.size() != 16) || prefix > bytes.size() * 8)
            throw py::value_error("a network is 4 or 16 bytes and a prefix that fits them");
        Network network{};
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
    check_loop_thread(core, "Server.reload");
    auto given = option<py::object>(options, "websocket");
    WebSocketOptions websocket = websocket_options(given);
    WebSocketSettings settings = websocket_settings(given);
    HttpSettings http;
    http.idle_timeout = option<unsigned>(options, "idle_timeout");
    http.keep_alive_timeout = option<unsigned>(options, "keep_alive_timeout");
    http.min_body_rate = option<uint32_t>(options, "min_body_rate");
    http.max_body = option<uint64_t>(options, "max_request_body_size");
    auto proxies = option<py::dict>(options, "proxies");
    http.proxy_protocol = option<bool>(proxies, "proxy_protocol");
    TrustedProxies trusted = trusted_proxies(proxies);
    auto limits = option<py::dict>(options, "limits");
    LimitFigures figures = limit_figures(limits);
    auto report_ms = option<unsigned>(limits, "report_ms");
    auto tls = option<py::object>(options, "tls");
    if (!tls.is_none()) check(core.set_tls(tls.cast<const TlsConfig &>()));
    // The old handlers go at the end: their finalisers are users' code.
    WebSocketOptions old = std::exchange(core.options, std::move(websocket));
    core.limits.websocket = settings;
    core.http = http;
    core.limits.proxies = std::move(trusted);
    core.limits.figures = figures;
    core.limits.refusals.period_ms = report_ms;
    core.apply_options();
}

// Changes no other option.
void set_message_handler(ServerCore &core, py::object handler) {
    check_loop_thread(core, "Server._set_message_handler");
    Ref old = std::exchange(core.options.message, optional(handler));
}

// As socket.bind() would raise: an OSError whose filename is the host that failed, or socket.gaierror.
[[noreturn]] void raise_listen_error(const ListenError &failed) {
    if (failed.number) {
        errno = failed.number;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, failed.host);
    } else {
        py::object type = py::module_::import("socket").attr("gaierror");
        const int code = failed.resolver_error;
        PyErr_SetObject(type.ptr(), py::make_tuple(code, gai_strerror(code)).ptr());
    }
    throw py::error_already_set();
}

// Makes the instance and lets it listen. The addresses where it does, with their ports.
template <typename Open>
py::list listen(ServerCore &core, Open open) {
    check(core.make_instance());
    Listeners &listeners = core.instance->listeners();
    if (std::optional<ListenError> failed = open(listeners)) {
        core.drop_instance();
        core.finish.set_done();
        raise_listen_error(*failed);
    }
    py::list list;
    for (const ListenAddress &address : listeners.addresses())
        list.append(py::make_tuple(py::bytes(address.text, static_cast<size_t>(address.length)), address.port));
    return list;
}

py::list listen_tcp(ServerCore &core, const std::vector<std::string> &hosts, int port, bool reuse_port,
                    bool ipv6_only) {
    return listen(core, [&](Listeners &to) { return to.listen_tcp(hosts, port, reuse_port, ipv6_only); });
}

py::list listen_unix(ServerCore &core, const py::bytes &path, int mode) {
    return listen(core, [&](Listeners &to) { return to.listen_unix(std::string_view(path), mode); });
}

py::list listen_fds(ServerCore &core, const std::vector<int> &fds) {
    return listen(core, [&](Listeners &to) { return to.listen_fds(fds); });
}

std::vector<int> listening_descriptors(ServerCore &core) {
    check_loop_thread(core, "Server.listening_descriptors");
    return core.instance ? core.instance->listeners().descriptors() : std::vector<int>();
}

// The arguments of close(). TypeError or ValueError when close() would refuse them.
std::pair<int, std::string> read_close(const py::object &code, const py::object &reason) {
    long status = 0;
    std::string text;
    check(read_close_code(code.ptr(), &status) && read_close_reason(reason.ptr(), &text));
    return {static_cast<int>(status), std::move(text)};
}

void stop_within(ServerCore &core, double seconds, const py::object &code, const py::object &reason) {
    auto [status, text] = read_close(code, reason);
    check(core.stop.start_within(seconds, status, std::move(text)));
}

void call_soon(py::object self, py::object fn, const py::args &args) {
    auto &core = self.cast<ServerCore &>();
    if (!PyCallable_Check(fn.ptr())) throw py::type_error("fn must be callable");
    check(core.post_call(Ref::borrow(fn.ptr()), Ref::borrow(args.ptr()), "Server.call_soon"));
}

// No coroutine is being started on this stack, and no other thread runs the loop.
void check_can_change_event_loop(ServerCore &core, const char *call) {
    check_loop_thread(core, call);
    if (core.coroutines.is_busy()) throw std::runtime_error(std::string(call) + ": a coroutine is being started");
}

// For the event loop that a server runs in; the facade calls them in _run/event_loop.py.
void bind_event_loop(py::class_<ServerControl> &type) {
    auto def = [&type](const char *name, const char *doc, auto function, auto... arguments) {
        type.def(name, function, arguments..., doc);
    };
    def("attach_core", docs::pybind::kServerControl_attach_core, [](ServerCore &core) {
        check(core.run.attach());
        return core.instance->descriptor();
    });
    def("pump", docs::pybind::kServerControl_pump, [](ServerCore &core) {
        Run::Pumped pumped;
        check(core.run.pump(&pumped));
        return static_cast<int>(pumped);
    });
    def("loop_reader", docs::pybind::kServerControl_loop_reader, [](ServerCore &core, py::object on_end) {
        return owned(new_loop_reader(core, on_end.ptr()));
    }, py::arg("on_end"));
    def("detach_core", docs::pybind::kServerControl_detach_core, [](ServerCore &core) { check(core.run.detach()); });
    def("set_event_loop", docs::pybind::kServerControl_set_event_loop,
        [](ServerCore &core, py::object loop, py::object tools) {
        check_can_change_event_loop(core, "Server.set_event_loop");
        check(core.coroutines.set_loop(loop.ptr(), tools.ptr()));
    }, py::arg("loop"), py::arg("tools"));
    def("forget_event_loop", docs::pybind::kServerControl_forget_event_loop, [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_event_loop");
        core.coroutines.forget_loop();
    });
    def("cancel_tasks", docs::pybind::kServerControl_cancel_tasks, [](ServerCore &core) {
        check_loop_thread(core, "Server.cancel_tasks");
        core.coroutines.cancel_tasks();
    });
    def("forget_tasks", docs::pybind::kServerControl_forget_tasks, [](ServerCore &core) {
        check_can_change_event_loop(core, "Server.forget_tasks");
        core.coroutines.forget_tasks();
    });
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
    property("finished", [](const ServerCore &core) { return core.finish.is_done(); }, docs::kServerCore_finished);
    property("tasks", [](ServerCore &core) -> py::object {
        check_loop_thread(core, "Server.tasks");
        return owned(PyFrozenSet_New(core.coroutines.tasks()));
    }, docs::kServerCore_tasks);
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
            type.attr(method->ml_name) = owned(PyDescr_NewMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), method));
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
        .def("listening_descriptors", &listening_descriptors, docs::pybind::kServerControl_listening_descriptors)
        .def("run_loop",
             [](ServerCore &core, int signal_fd, py::handle rearm_signals) {
        check(core.run.run_to_end(signal_fd, rearm_signals.ptr()));
    }, py::arg("signal_fd") = -1, py::arg("rearm_signals") = py::none(), docs::pybind::kServerControl_run_loop)
        .def("stop_core", [](ServerCore &core, bool force) { check(core.stop.start(force)); },
             py::arg("close_active_connections"), docs::pybind::kServerControl_stop_core)
        .def_static("check_close", [](const py::object &code, const py::object &reason) { read_close(code, reason); },
                    py::arg("code"), py::arg("reason"), docs::kServerControl_check_close)
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
    py::class_<ServerCore> type(module, "ServerCore", py::custom_type_setup(make_collectable<ServerCore>),
                                docs::kServerCore);
    type.def(py::init([state] { return std::make_unique<ServerCore>(state); }), docs::pybind::kServerCore_init)
        .def("call_soon", &call_soon, py::arg("fn"), docs::pybind::kServerCore_call_soon);
    py::class_<ServerControl> control = bind_control(module);
    bind_properties(type, control);
    bind_stats(type, control);
    static PyMethodDef class_getitem = {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
                                        docs::kServerWebSocket_class_getitem};
    type.attr("__class_getitem__") =
        owned(PyDescr_NewClassMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), &class_getitem));
    add_methods(type, {kAnswerMethods, kServerTopicMethods});
    module.def("live_handles", [state] { return state->live_handles; }, docs::klive_handles);
}

}  // namespace uwserve
