// Life cycle of a server: options, forks, the rules for threads, failures of handlers, garbage collection.
#include "py/server/core.h"

#include <algorithm>
#include <cerrno>

#include "py/interpreter/threads.h"
#include "usockets/proxy/proxy.h"
#include "py/websocket/queue.h"

namespace uwserve {

namespace {

// What a PROXY header and a TLS handshake may take when HTTP connections have no idle timeout.
constexpr unsigned kOpeningSeconds = 10;

}  // namespace

ServerCore::ServerCore(ModuleState *module_state) : state(module_state) { state->servers.push_back(this); }

ServerCore::~ServerCore() {
    std::erase(state->servers, this);
    self = nullptr;  // it is being deallocated: nothing may take a reference any more
    if (!instance) return;
    if (is_forked) {
        (void) instance.release();  // its memory was made by, and for, the parent
        return;
    }
    limits.refusals.install(nullptr, nullptr, nullptr);
    abandon_handles();
    instance->close_http_connections();
    instance->close_websockets();
    instance.reset();
}

// --- configuration ---

bool ServerCore::set_tls(us_tls_config_t *config) {
    if (instance && !tls_) {
        PyErr_SetString(PyExc_ValueError, "TLS cannot be switched on once the server is bound");
        return false;
    }
    if (config == tls_.get()) return true;
    us_tls_config_ref(config);
    tls_.reset(config);
    if (instance) us_socket_context_set_tls(instance->http_context(), config);
    return true;
}

void ServerCore::apply_options() {
    if (!instance) return;
    const WebSocketSettings &settings = limits.websocket;
    instance->lifecycle().idle_timeout.set_schedule(
        PingSchedule(settings.idle_timeout, settings.send_pings, settings.ping_interval));
    instance->lifecycle().set_max_lifetime(settings.max_lifetime);
    instance->connections().idle_timeout = http_idle_timeout;
    instance->connections().keep_alive_timeout = keep_alive_timeout;
    instance->connections().min_body_rate = min_body_rate;
    proxy_networks = limits.proxies.view();
    us_socket_context_proxy(instance->http_context(), proxy_protocol ? &proxy_networks : nullptr,
                            http_idle_timeout ? http_idle_timeout : kOpeningSeconds);
    us_socket_context_tls_deadline(instance->http_context(), http_idle_timeout ? 0 : kOpeningSeconds);
    instance->connections().max_body = max_request_body_size;
    running_handlers.limits_changed();
}

// --- forks ---

// No thread is the loop thread any more, so every call takes the path of foreign threads and is refused there. A handler
// that forked returns into the loop once more: it finds no handlers and no descriptors, and ends. Lists may be half
// changed, by a thread that does not exist here: nothing walks them but what closes the descriptors.
void ServerCore::forked() {
    is_forked = true;
    break_ = true;
    loop_thread = kNoThread;
    WebSocketOptions old = std::exchange(options, WebSocketOptions());
    Ref hooks[] = {std::move(dispatch), std::move(on_refused)};
    if (instance) instance->abandon();
}

// Takes the handles away from open sockets without calling any handler: for a server that cannot be reached any more.
void ServerCore::abandon_handles() {
    for (WsObject *handle : std::exchange(unfinished, {})) Ref::steal(reinterpret_cast<PyObject *>(handle));
    stop.abandon();
    instance->for_each_websocket([](Socket *ws) {
        PerSocket *user = ws->getUserData();
        if (auto *handle = static_cast<WsObject *>(std::exchange(user->handle, nullptr))) {
            handle->ws = nullptr;
            Ref dropped = Ref::steal(reinterpret_cast<PyObject *>(handle));
        }
    });
    instance->each_http_connection([this](us_socket_t *s) {
        auto *conn = static_cast<HttpConnection *>(s->user);
        if (conn && conn->request) on_settled(*conn);
    });
}

// --- threads ---

bool ServerCore::check_alive(const char *call) {
    if (!is_forked) return true;
    PyErr_Format(PyExc_RuntimeError, "%s: the server belongs to the process that made it, and this is a fork of it",
                 call);
    return false;
}

bool ServerCore::check_hooked() {
    if (self) return true;
    PyErr_SetString(PyExc_RuntimeError, "set_hooks() comes first");
    return false;
}

bool ServerCore::refuse_thread(const char *call) {
    if (!check_alive(call)) return false;
    PyErr_Format(PyExc_RuntimeError,
                 "%s must be called on the server's thread, %s, not on %s; Server.call_soon() gets you there", call,
                 describe_thread(loop_thread.load()).c_str(), describe_thread(PyThread_get_thread_ident()).c_str());
    return false;
}

bool ServerCore::post(std::function<void(ServerCore &)> function, const char *call) {
    return post(PostedWork::Work{std::move(function), Ref(), Ref(), Ref()}, call);
}

bool ServerCore::post_call(Ref callable, Ref arguments, const char *call) {
    Ref context = contexts.changed_copy();
    if (!context && PyErr_Occurred()) return false;
    return post(PostedWork::Work{nullptr, std::move(callable), std::move(arguments), std::move(context)}, call);
}

bool ServerCore::post(PostedWork::Work work, const char *call) {
    if (!check_alive(call)) return false;
    if (!instance) {
        PyErr_Format(PyExc_RuntimeError, "%s: the server has ended", call);
        return false;
    }
    posted_work.add(std::move(work));
    return true;
}

// A C++ exception at the top of a turn, where nothing may stay corked.
void ServerCore::failed(Origin origin) {
    gil.ensure();
    set_python_error();
    if (instance) instance->uncork_failed();
    log_failure(origin);
}

// --- refusals ---

// One closure wakes the loop's thread, however many are refused until it runs.
bool ServerCore::has_room_to_post(size_t length) {
    if (limits.has_memory_elsewhere(length)) return true;
    if (limits.refusals.count_elsewhere(Refusal::kSendsBufferedBytes) &&
        !post([](ServerCore &core) { core.limits.refusals.wake(); }, "Server")) {
        PyErr_Clear();  // the server has ended, and reports nothing any more
    }
    return false;
}

void ServerCore::on_report(void *self, const Refusals::Counts &counts, double seconds) {
    auto *core = static_cast<ServerCore *>(self);
    core->gil.ensure();
    if (!core->on_refused) return;
    core->coroutines.leave_if_idle();
    Ref hook = Ref::borrow(core->on_refused.get());
    Ref news = Ref::steal(guarded<PyDict_New>());
    for (size_t i = 0; news && i < kRefusals; i++) {
        if (!counts[i]) continue;
        Ref number = Ref::steal(PyLong_FromUnsignedLongLong(counts[i]));
        if (!number || PyDict_SetItemString(news.get(), refusal_name(static_cast<Refusal>(i)), number.get()) != 0) {
            news.reset();
        }
    }
    Ref result = news ? Ref::steal(guarded<PyObject_CallFunction>(hook.get(), "dO", seconds, news.get())) : Ref();
    if (!result) core->log_failure(Origin::kRefusalReport);
}

// --- failures of user code ---

bool ends_run(PyObject *error) {
    return PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
           PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
}

void ServerCore::log_failure(Origin origin, WsObject *ws) {
    Ref error = take_exception();
    if (!error) return;
    // Where no run is there to be ended, it is logged like any other.
    if (ends_run(error.get()) && (running() || finishing_)) {
        break_ = true;
        if (!run_error_) run_error_ = std::move(error);
        if (embedded_ && instance) instance->wake_up();  // the next pump raises it
        return;
    }
    handler_errors.count(origin);
    if (!log_exception) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
        guarded<PyErr_WriteUnraisable>(self);
        return;
    }
    PyObject *socket = ws ? reinterpret_cast<PyObject *>(ws) : Py_None;
    coroutines.leave_if_idle();
    Ref result =
        Ref::steal(guarded<PyObject_CallFunction>(log_exception.get(), "sOO", name_of(origin), error.get(), socket));
    if (!result) guarded<PyErr_WriteUnraisable>(log_exception.get());
}

void ServerCore::handler_failed(WsObject *ws, Origin origin) {
    if (!ws || !options.error || !PyErr_ExceptionMatches(PyExc_Exception)) {
        log_failure(origin, ws);
        return;
    }
    handler_errors.count(origin);
    Ref error = take_exception();
    Ref handler = Ref::borrow(options.error.get());
    coroutines.before_call(handler.get());
    ContextScope scope = this->scope(&ws->context);
    Ref result;
    if (scope) {  // Bun's order; the facade adapts handlers of the older one
        result = Ref::steal(guarded<PyObject_CallFunctionObjArgs>(handler.get(), error.get(),
                                                                  reinterpret_cast<PyObject *>(ws), nullptr));
    }
    if (!result) {
        log_failure(Origin::kError, ws);
    } else if (result.get() != Py_None && is_coroutine(result.get())) {
        scope.close();
        run_in_order(*this, ws, std::move(result), nullptr, Origin::kError);
    }
}

// --- garbage collection ---

// Whether the sockets and what they refer to can be looked at: nothing of the core runs, nor waits without the GIL.
bool ServerCore::is_still() const {
    return instance && !is_forked && (!running() || (embedded_ && gil.is_held() && !instance->is_in_callback()));
}

int ServerCore::traverse(visitproc visit, void *arg) {
    for (Ref *ref :
         {&options.open, &options.message, &options.close, &options.drain, &options.ping, &options.pong, &options.error,
          &dispatch, &log_exception, &on_stopped, &on_refused, &on_event_loop_wanted, &on_unknown_protocol,
          &connections_log.is_wanted, &connections_log.opened, &connections_log.closed}) {
        Py_VISIT(ref->get());
    }
    if (int result = coroutines.traverse(visit, arg)) return result;
    if (int result = running_handlers.traverse(visit, arg)) return result;
    if (int result = contexts.traverse(visit, arg)) return result;
    for (WsObject *handle : unfinished) Py_VISIT(handle);
    if (int result = stop.traverse(visit, arg)) return result;
    if (int result = posted_work.traverse(visit, arg)) return result;
    if (!is_still()) return 0;
    int result = 0;
    auto visit_object = [&](void *object) {
        if (object && !result) result = visit(static_cast<PyObject *>(object), arg);
    };
    instance->for_each_websocket([&](Socket *ws) { visit_object(ws->getUserData()->handle); });
    instance->each_http_connection([&](us_socket_t *s) {
        auto *conn = static_cast<HttpConnection *>(s->user);
        if (!conn) return;
        visit_object(conn->request);
        if (conn->stream) visit_object(conn->stream->held());
    });
    return result;
}

void ServerCore::clear() {
    WebSocketOptions old = std::exchange(options, WebSocketOptions());
    Ref hooks[] = {std::move(dispatch),   std::move(log_exception),        std::move(on_stopped),
                   std::move(on_refused), std::move(on_event_loop_wanted), std::move(on_unknown_protocol)};
    coroutines.clear();
    running_handlers.clear();
    contexts.clear();
    posted_work.clear();
    if (!is_still()) return;
    embedded_ = false;  // no event loop pumps garbage: it was closed before the server was detached, or is garbage, too
    loop_thread = 0;
    abandon_handles();
    instance->close_http_connections();  // ends streams, which runs user code
}

}  // namespace uwserve
