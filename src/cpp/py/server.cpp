// Life cycle of a server: listening, running, stopping, the end; and work posted by other threads.
#include "server.h"

#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "threads.h"
#include "usockets/proxy.h"
#include "ws_object.h"

namespace uwserve {

namespace {

// What sockets get to flush their backlog in after a forced stop; the rest is cut.
constexpr unsigned kForcedStopSeconds = 2;

// What a PROXY header and a TLS handshake may take when HTTP connections have no idle timeout.
constexpr unsigned kOpeningSeconds = 10;

bool os_error(int error) {
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return false;
}

// socket.gaierror(code, text), as socket.bind() would raise.
bool name_error(int gai) {
    Ref module = Ref::steal(PyImport_ImportModule("socket"));
    Ref type = module ? Ref::steal(PyObject_GetAttrString(module.get(), "gaierror")) : Ref();
    if (!type) return false;
    Ref value = Ref::steal(Py_BuildValue("(is)", gai, gai_strerror(gai)));
    if (value) PyErr_SetObject(type.get(), value.get());
    return false;
}

}  // namespace

ServerCore::ServerCore(ModuleState *module_state) : state(module_state) { state->servers.push_back(this); }

ServerCore::~ServerCore() {
    std::erase(state->servers, this);
    self = nullptr;  // it is being deallocated: nothing may take a reference any more
    if (!engine) return;
    if (is_forked) {
        (void) engine.release();  // its memory was made by, and for, the parent
        return;
    }
    limits.refusals.install(nullptr, nullptr, nullptr);
    abandon_handles();
    us_socket_context_close(0, engine->http_context());
    us_socket_context_close(0, engine->ws_context());
    engine.reset();
}

// --- listening ---

bool ServerCore::make_engine() {
    if (engine || finished) {
        PyErr_SetString(PyExc_RuntimeError, "this server was already bound");
        return false;
    }
    if (!self) {
        PyErr_SetString(PyExc_RuntimeError, "set_hooks() comes first");
        return false;
    }
    engine = Engine::create(*this, *this, limits);
    if (!engine) return os_error(errno);
    us_loop_on_release(engine->loop(), on_release, this);
    limits.refusals.install(engine->loop(), on_report, this);
    limits.trusted_user = this;
    limits.is_trusted_proxy = [](void *self, const us_socket_t *s) {
        us_networks_t trusted = static_cast<ServerCore *>(self)->proxies.view();
        return us_networks_contain(&trusted, s->ip, s->ip_length);
    };
    apply_options();
    if (tls_) us_socket_context_set_tls(engine->http_context(), tls_.get());
    return true;
}

bool ServerCore::set_tls(us_tls_config_t *config) {
    if (engine && !tls_) {
        PyErr_SetString(PyExc_ValueError, "TLS cannot be switched on once the server is bound");
        return false;
    }
    if (config == tls_.get()) return true;
    us_tls_config_ref(config);
    tls_.reset(config);
    if (engine) us_socket_context_set_tls(engine->http_context(), config);
    return true;
}

bool ServerCore::listen_tcp(const char *host, int port, bool reuse_port, bool ipv6_only) {
    if (!make_engine()) return false;
    int flags =
        (reuse_port ? LIBUS_LISTEN_DEFAULT : LIBUS_LISTEN_EXCLUSIVE_PORT) | (ipv6_only ? LIBUS_LISTEN_IPV6_ONLY : 0);
    errno = 0;
    listener =
        us_socket_context_listen(0, engine->http_context(), host, port, flags, sizeof(uWS::HttpResponseData<false>));
    if (!listener) {
        int error = errno, gai = us_gai_error();
        engine.reset();
        finished = true;
        return error ? os_error(error) : name_error(gai);
    }
    local_port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener));
    return true;
}

bool ServerCore::listen_unix(std::string_view path) {
    if (!make_engine()) return false;
    listener =
        us_listen_unix(engine->http_context(), path.data(), path.size(), -1, sizeof(uWS::HttpResponseData<false>));
    if (!listener) {
        int error = errno;
        engine.reset();
        finished = true;
        return os_error(error);
    }
    return true;
}

void ServerCore::apply_options() {
    if (!engine) return;
    ContextData *upstream = engine->guard().limits();
    engine->guard().max_payload = options.max_payload_length;
    upstream->closeOnBackpressureLimit = options.close_on_backpressure_limit;
    upstream->resetIdleTimeoutOnSend = false;
    limits.set_backpressure_limit(options.backpressure_limit);
    engine->guard().set_idle_timeout(options.idle_timeout, options.send_pings);
    engine->gate().idle_timeout = http_idle_timeout;
    proxy_networks = proxies.view();
    us_socket_context_proxy(engine->http_context(), proxy_protocol ? &proxy_networks : nullptr,
                            http_idle_timeout ? http_idle_timeout : kOpeningSeconds);
    us_socket_context_tls_deadline(engine->http_context(), http_idle_timeout ? 0 : kOpeningSeconds);
    engine->gate().max_body = max_request_body_size;
}

// --- running ---

void ServerCore::on_release(void *self) {
    auto *core = static_cast<ServerCore *>(self);
    core->grave->empty();
    core->gil.release();
}

// Python's own C-level signal handler has written to the descriptor; here its Python-level handlers run.
void ServerCore::on_signal(void *self) {
    auto *core = static_cast<ServerCore *>(self);
    char bytes[64];
    while (read(core->signal_fd_, bytes, sizeof(bytes)) > 0) {
    }
    core->gil.ensure();
    if (PyErr_CheckSignals() == 0) return;
    core->break_ = true;
    if (!core->run_error_) core->run_error_ = take_exception();
}

bool ServerCore::run(int signal_fd) {
    if (!check_alive("Server.run")) return false;
    if (running()) {
        PyErr_Format(PyExc_RuntimeError, "the server is already running, on %s",
                     describe_thread(loop_thread.load()).c_str());
        return false;
    }
    if (finished || !listener) {
        if (finished && stopping) return true;  // stopped before it ran: nothing is left to do
        PyErr_SetString(PyExc_RuntimeError, finished ? "the server has ended" : "the server is not bound");
        return false;
    }
    if (engine->loop()->depth > 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the server can't be run from its own callback, or while another thread is in one");
        return false;
    }
    Ref keep = Ref::borrow(self);
    us_watch_t *watch = nullptr;
    signal_fd_ = signal_fd;
    if (signal_fd >= 0 && !(watch = us_watch(engine->loop(), signal_fd, on_signal, this))) return os_error(errno);

    loop_thread = PyThread_get_thread_ident();
    break_ = false;
    us_loop_t *loop = engine->loop();
    while (loop->num_polls > 0 && !break_) us_loop_iterate(loop, -1);
    gil.ensure();
    if (is_forked) {  // a handler forked, and this is the child
        PyErr_SetString(PyExc_RuntimeError, "the server belongs to the process that made it, and this is a fork of it");
        return false;
    }
    run_posted();
    if (watch) us_unwatch(watch);
    loop_thread = 0;
    finish_if_idle();
    if (!run_error_) return true;
    Ref error = std::move(run_error_);
    PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
    return false;
}

bool ServerCore::stop(bool force) {
    if (!check_alive("Server.stop")) return false;
    if (finished || (stopping && (forced || !force))) return true;
    if (!on_loop_thread()) {
        return post([force](ServerCore &core) {
            if (!core.stop(force)) core.log_failure("stop");
        }, "Server.stop");
    }
    if (!engine) {
        stopping = finished = true;
        return true;
    }
    Entry entry(*this);
    if (!stopping) {
        stopping = true;
        us_listen_socket_close(0, listener);
        engine->gate().wind_down();
    }
    if (force) {
        forced = true;
        engine->gate().close_all();
        us_socket_context_each(engine->ws_context(), [](us_socket_t *s, void *core) {
            auto *handle = static_cast<WsObject *>(reinterpret_cast<Socket *>(s)->getUserData()->handle);
            if (handle) static_cast<ServerCore *>(core)->close_handle(handle, 1001, "Server closed");
            if (!s->closed) us_socket_deadline(s, kForcedStopSeconds);
        }, this);
    }
    return true;
}

void ServerCore::finish_if_idle() {
    if (engine && engine->loop()->depth == 0 && engine->loop()->num_polls == 0) finish();
}

// The last connection is gone: the engine goes, the Python side is told. With the GIL, no thread running the loop.
void ServerCore::finish() {
    if (finished || finishing_) return;
    finishing_ = true;
    SavedError error;
    run_posted();
    limits.refusals.detach();  // with the last report
    finished = true;
    listener = nullptr;
    engine.reset();
    if (!on_stopped) return;
    Ref hook = Ref::borrow(on_stopped.get());
    Ref result = Ref::steal(PyObject_CallNoArgs(hook.get()));
    if (!result) log_failure("stop");
}

// No thread is the loop thread any more, so every call takes the path of foreign threads and is refused there. A handler
// that forked returns into the loop once more: it finds no handlers and no descriptors, and ends. Lists may be half
// changed, by a thread that does not exist here: nothing walks them but what closes the descriptors.
void ServerCore::forked() {
    is_forked = true;
    break_ = true;
    loop_thread = kNoThread;
    WebSocketOptions old = std::exchange(options, WebSocketOptions());
    Ref hooks[] = {std::move(dispatch), std::move(on_refused)};
    if (engine) engine->abandon();
}

// Takes the handles away from open sockets without calling any handler: for a server nobody can reach any more.
void ServerCore::abandon_handles() {
    us_socket_context_each(engine->ws_context(), [](us_socket_t *s, void *) {
        PerSocket *user = reinterpret_cast<Socket *>(s)->getUserData();
        if (auto *handle = static_cast<WsObject *>(std::exchange(user->handle, nullptr))) {
            handle->ws = nullptr;
            Ref dropped = Ref::steal(reinterpret_cast<PyObject *>(handle));
        }
    }, nullptr);
    us_socket_context_each(engine->http_context(), [](us_socket_t *s, void *core) {
        auto *conn = static_cast<HttpConn *>(s->user);
        if (conn && conn->request) static_cast<ServerCore *>(core)->on_settled(*conn);
    }, this);
}

// --- threads ---

bool ServerCore::check_alive(const char *call) {
    if (!is_forked) return true;
    PyErr_Format(PyExc_RuntimeError, "%s: the server belongs to the process that made it, and this is a fork of it",
                 call);
    return false;
}

bool ServerCore::refuse_thread(const char *call) {
    if (!check_alive(call)) return false;
    PyErr_Format(PyExc_RuntimeError,
                 "%s must be called on the server's thread, %s, not on %s; Server.call_soon() gets you there", call,
                 describe_thread(loop_thread.load()).c_str(), describe_thread(PyThread_get_thread_ident()).c_str());
    return false;
}

bool ServerCore::post(std::function<void(ServerCore &)> fn, const char *call) {
    return post(Posted{std::move(fn), Ref(), Ref()}, call);
}

bool ServerCore::post_call(Ref callable, Ref arguments, const char *call) {
    return post(Posted{nullptr, std::move(callable), std::move(arguments)}, call);
}

bool ServerCore::post(Posted work, const char *call) {
    if (!check_alive(call)) return false;
    if (!engine) {
        PyErr_Format(PyExc_RuntimeError, "%s: the server has ended", call);
        return false;
    }
    bool first;
    {
        std::lock_guard lock(posted_mutex_);
        first = posted_.empty();
        posted_.push_back(std::move(work));
    }
    if (first) reinterpret_cast<uWS::Loop *>(engine->loop())->defer([this] { run_posted(); });
    return true;
}

void ServerCore::run_posted() {
    gil.ensure();
    std::vector<Posted> batch;
    {
        std::lock_guard lock(posted_mutex_);
        batch.swap(posted_);
    }
    for (Posted &item : batch) {
        Posted work = std::move(item);  // its references go after it has run
        if (work.fn) {
            work.fn(*this);
            continue;
        }
        Ref result = Ref::steal(PyObject_CallObject(work.callable.get(), work.arguments.get()));
        if (!result) log_failure("call_soon");
    }
}

// --- refusals ---

// One closure wakes the loop's thread, however many are refused until it runs.
bool ServerCore::has_room_to_post(size_t length) {
    if (limits.has_memory_elsewhere(length)) return true;
    if (limits.refusals.count_elsewhere(Refusal::kSendsBufferedBytes) &&
        !post([](ServerCore &core) { core.limits.refusals.wake(); }, "Server")) {
        PyErr_Clear();  // the server has ended: nobody is left to report it
    }
    return false;
}

void ServerCore::on_report(void *self, const Refusals::Counts &counts, double seconds) {
    auto *core = static_cast<ServerCore *>(self);
    core->gil.ensure();
    if (!core->on_refused) return;
    Ref hook = Ref::borrow(core->on_refused.get());
    Ref news = Ref::steal(PyDict_New());
    for (size_t i = 0; news && i < kRefusals; i++) {
        if (!counts[i]) continue;
        Ref number = Ref::steal(PyLong_FromUnsignedLongLong(counts[i]));
        if (!number || PyDict_SetItemString(news.get(), refusal_name(static_cast<Refusal>(i)), number.get()) != 0) {
            news.reset();
        }
    }
    Ref result = news ? Ref::steal(PyObject_CallFunction(hook.get(), "dO", seconds, news.get())) : Ref();
    if (!result) core->log_failure("refused");
}

// --- failures of user code ---

void ServerCore::log_failure(const char *where) {
    Ref error = take_exception();
    if (!error) return;
    if (!PyErr_GivenExceptionMatches(error.get(), PyExc_Exception)) {
        break_ = true;  // KeyboardInterrupt, SystemExit: they end the run, as in asyncio
        if (!run_error_) run_error_ = std::move(error);
        return;
    }
    if (!log_exception) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
        PyErr_WriteUnraisable(self);
        return;
    }
    Ref result = Ref::steal(PyObject_CallFunction(log_exception.get(), "sO", where, error.get()));
    if (!result) PyErr_WriteUnraisable(log_exception.get());
}

void ServerCore::handler_failed(WsObject *ws, const char *where) {
    if (!options.error || !PyErr_ExceptionMatches(PyExc_Exception)) {
        log_failure(where);
        return;
    }
    Ref error = take_exception();
    Ref handler = Ref::borrow(options.error.get());
    Ref result =
        Ref::steal(PyObject_CallFunctionObjArgs(handler.get(), reinterpret_cast<PyObject *>(ws), error.get(), nullptr));
    if (!result) log_failure("error");
}

// --- garbage collection ---

int ServerCore::traverse(visitproc visit, void *arg) {
    for (Ref *ref : {&options.open, &options.message, &options.close, &options.drain, &options.ping, &options.pong,
                     &options.error, &dispatch, &log_exception, &on_stopped, &on_refused}) {
        Py_VISIT(ref->get());
    }
    for (Posted &work : posted_) {  // only ever changed with the GIL
        Py_VISIT(work.callable.get());
        Py_VISIT(work.arguments.get());
    }
    // While no thread runs the loop, the sockets' references can be looked at.
    if (running() || is_forked || !engine) return 0;
    struct Visit {
        visitproc visit;
        void *arg;
        int result = 0;
        void operator()(void *object) {
            if (object && !result) result = visit(static_cast<PyObject *>(object), arg);
        }
    } visitor{visit, arg};
    us_socket_context_each(engine->ws_context(), [](us_socket_t *s, void *user) {
        (*static_cast<Visit *>(user))(reinterpret_cast<Socket *>(s)->getUserData()->handle);
    }, &visitor);
    us_socket_context_each(engine->http_context(), [](us_socket_t *s, void *user) {
        if (s->user) (*static_cast<Visit *>(user))(static_cast<HttpConn *>(s->user)->request);
    }, &visitor);
    return visitor.result;
}

void ServerCore::clear() {
    WebSocketOptions old = std::exchange(options, WebSocketOptions());
    Ref hooks[] = {std::move(dispatch), std::move(log_exception), std::move(on_stopped), std::move(on_refused)};
    std::vector<Posted> posted = std::exchange(posted_, {});
    if (!engine || running() || is_forked) return;
    abandon_handles();
    us_socket_context_close(0, engine->http_context());  // ends streams, which runs user code
}

}  // namespace uwserve
