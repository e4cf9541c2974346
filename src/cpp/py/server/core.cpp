#include "py/server/core.h"

#include <algorithm>

#include "py/interpreter/threads.h"
#include "py/websocket/object.h"

namespace uwserve {

ServerCore::ServerCore(ModuleState *module_state) : state(module_state) { state->servers.push_back(this); }

ServerCore::~ServerCore() {
    std::erase(state->servers, this);
    self = nullptr;  // it is being deallocated: no code may make a reference to it
    if (!instance) return;
    if (is_forked) {
        (void) instance.release();  // its memory was made by, and for, the parent
        return;
    }
    limits.refusals.install(nullptr, nullptr, nullptr);
    abandon_handles();
    instance->close_http_connections();
    instance->close_websockets();
    drop_instance();
}

// --- life cycle ---

bool ServerCore::make_instance() {
    if (instance || finish.is_done()) {
        PyErr_SetString(PyExc_RuntimeError, "this server was already bound");
        return false;
    }
    if (!check_hooked()) return false;
    std::unique_ptr<Instance> made = Instance::create(*this, *this, limits);
    if (!made) {
        PyErr_SetFromErrno(PyExc_OSError);
        return false;
    }
    stop.open_timer(*made);
    instance = std::move(made);
    instance->on_release<&Run::on_release>(&run);
    limits.refusals.install(instance->loop(), on_report, this);
    apply_options();
    if (tls_) instance->set_tls(tls_);
    return true;
}

// Timers are closed first, because the loop is freed with the instance.
void ServerCore::drop_instance() {
    stop.close_timer();
    running_handlers.close_timer();
    instance.reset();
}

bool ServerCore::set_tls(const TlsConfig &config) {
    if (instance && !tls_) {
        PyErr_SetString(PyExc_ValueError, "TLS cannot be switched on once the server is bound");
        return false;
    }
    if (config == tls_) return true;
    tls_ = config;
    if (instance) instance->set_tls(tls_);
    return true;
}

void ServerCore::apply_options() {
    if (!instance) return;
    instance->apply_settings(http);
    running_handlers.limits_changed();
}

// --- forks ---

// Lists may be half changed, by a thread that does not exist in the child: only the function that closes the
// descriptors walks them.
void ServerCore::forked() {
    is_forked = true;
    run.forked();
    stop.abandon_timer();
    running_handlers.abandon_timer();
    WebSocketOptions old = std::exchange(options, WebSocketOptions());
    Ref hooks[] = {std::move(dispatch), std::move(on_refused)};
    if (instance) instance->abandon();
}

// Detaches the handles of open sockets without calling any handler: no code can reach the server any more.
void ServerCore::abandon_handles() {
    for (WsObject *handle : std::exchange(unfinished, {})) Ref::steal(as_object(handle));
    stop.abandon();
    instance->for_each_websocket([](Socket *ws) {
        PerSocket *user = ws->getUserData();
        if (auto *handle = static_cast<WsObject *>(std::exchange(user->handle, nullptr))) {
            handle->ws = nullptr;
            Ref dropped = Ref::steal(as_object(handle));
        }
    });
    instance->for_each_http_connection([this](HttpConnection &conn) {
        if (conn.request) on_settled(conn);
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
                 describe_thread(run.thread()).c_str(), describe_thread(PyThread_get_thread_ident()).c_str());
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

// --- refusals ---

// The loop's thread is woken once, however many messages are refused until it runs.
bool ServerCore::has_room_to_post(size_t length) {
    if (limits.has_memory_elsewhere(length)) return true;
    if (limits.refusals.count_elsewhere(Refusal::kSendsBufferedBytes) &&
        !post([](ServerCore &core) { core.limits.refusals.wake(); }, "Server")) {
        PyErr_Clear();  // the server has ended, and reports nothing
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
        if (!number || PyDict_SetItemString(news.get(), refusal_name(static_cast<Refusal>(i)), number.get()) != 0)
            news.reset();
    }
    Ref result = news ? Ref::steal(guarded<PyObject_CallFunction>(hook.get(), "dO", seconds, news.get())) : Ref();
    if (!result) core->log_failure(Origin::kRefusalReport);
}

// --- garbage collection ---

// Whether the sockets and their objects can be visited: no code of the core is running, or waiting without the GIL.
bool ServerCore::is_still() const {
    return instance && !is_forked &&
           (!running() || (run.is_embedded() && gil.is_held() && !instance->is_in_callback()));
}

int ServerCore::traverse(visitproc visit, void *arg) {
    for (Ref *ref :
         {&options.open, &options.message, &options.close, &options.drain, &options.ping, &options.pong, &options.error,
          &dispatch, &log_exception, &on_stopped, &on_refused, &on_event_loop_wanted, &on_unknown_protocol,
          &connections_log.is_wanted, &connections_log.opened, &connections_log.closed}) {
        Py_VISIT(ref->get());
    }
    for (WsObject *handle : unfinished) Py_VISIT(handle);
    int result = coroutines.traverse(visit, arg);
    if (!result) result = running_handlers.traverse(visit, arg);
    if (!result) result = contexts.traverse(visit, arg);
    if (!result) result = stop.traverse(visit, arg);
    if (!result) result = posted_work.traverse(visit, arg);
    if (result || !is_still()) return result;
    auto visit_object = [&](void *object) {
        if (object && !result) result = visit(static_cast<PyObject *>(object), arg);
    };
    instance->for_each_websocket([&](Socket *ws) { visit_object(ws->getUserData()->handle); });
    instance->for_each_http_connection([&](HttpConnection &conn) {
        visit_object(conn.request);
        if (conn.stream) visit_object(conn.stream->held());
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
    run.forget_event_loop();  // it was closed before the server was detached, or is garbage, too
    abandon_handles();
    instance->close_http_connections();  // ends streams, which runs user code
}

}  // namespace uwserve
