// A server: the instance, the handlers and the rules by which Python may touch them.
//
// Threads. `loop_thread` is the thread inside run_loop() or of the event loop it is attached to, or 0 when none is. While one is, only it touches the instance;
// other threads post operations, which the loop thread runs in order. While none is, any thread with the GIL may, and does
// so within a DispatchScope. All Python state (handlers, handles, requests) is touched with the GIL only.
//
// Turns. Posted work, other sockets' handlers and what a stop does to them run at the top of a turn only, with no user code
// on the stack and no socket corked. A call may run one handler, of the socket that it names (close, terminate,
// upgrade); it finds the caller's socket corked, and leaves it so. Nothing that Python code can call runs posted work.
//
// Lifetime. Every ServerWebSocket and Request holds a strong reference to the Python object that owns this core; the
// instance holds one to the handle of every open socket. The instance dies in finish(), after its last connection, or in the
// destructor; from then on every call has its "closed" answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "py/websocket/deferred_free.h"
#include "py/server/connection_log.h"
#include "py/interpreter/contexts.h"
#include "py/coroutines/coroutines.h"
#include "py/interpreter/gil.h"
#include "py/server/handler_errors.h"
#include "py/interpreter/exception_barrier.h"
#include "py/interpreter/state.h"
#include "py/server/posted_work.h"
#include "py/server/stop.h"
#include "usockets/tls/tls.h"
#include "usockets/tcp/listen_fd.h"
#include "uws/upstream/instance.h"
#include "uws/http/forwarded.h"

namespace uwserve {

struct WsObject;
struct RequestObject;

struct DropTls {
    void operator()(us_tls_config_t *config) const { us_tls_config_unref(config); }
};

// Handlers of `websocket` and options for them; replaced whole by reload. The others are in Limits::websocket.
struct WebSocketOptions {
    Ref open, message, close, drain, ping, pong, error;
    bool serial = false;
    bool enabled = false;
    uint32_t max_concurrent_handlers = 256;
    DeflateOptions deflate;
    std::optional<std::vector<std::string>> protocols;  // none: the first that the client offers
};

// Whether an exception ends a run, as in asyncio: KeyboardInterrupt and SystemExit, and no other.
bool ends_run(PyObject *error);

class ServerCore final : public WsHandler, public HttpHandler {
  public:
    explicit ServerCore(ModuleState *state);
    ~ServerCore() override;

    // Brackets native work done on behalf of Python outside a dispatch, so that closes in it are deferred as in one (while a
    // thread runs the loop, to its next turn), and what it published leaves soon. The outermost one of a stopped server that no thread runs ends the server, when its
    // last connection went in it.
    class DispatchScope {
      public:
        explicit DispatchScope(ServerCore &core) : core_(core) {
            if (!core.instance || core.instance->is_in_callback()) return;
            entered_ = core.instance.get();
            entered_->enter();
        }
        ~DispatchScope() {
            if (!entered_) return;
            SavedError error;  // close handlers run here
            // Close handlers of connections, and what streams end with, wait for the turn that there will be.
            core_.running() ? entered_->leave_later() : entered_->leave();
            if (core_.stop.has_started() && !core_.running()) core_.end_scope();
        }
        DispatchScope(const DispatchScope &) = delete;
        DispatchScope &operator=(const DispatchScope &) = delete;

      private:
        ServerCore &core_;
        Instance *entered_ = nullptr;
    };

    // --- life cycle (server/core.cpp, server/listen.cpp, server/run.cpp); all return false with an exception set ---
    // On all of these numeric addresses; the error is an OSError whose filename is the one that failed.
    bool listen_tcp(const std::vector<std::string> &hosts, int port, bool reuse_port, bool ipv6_only);
    bool listen_unix(std::string_view path, int mode);  // mode -1: the umask's
    // On descriptors that are bound and listen; they are taken over on success, and before one that fails.
    bool listen_fds(const std::vector<int> &fds);
    void close_listeners();
    std::vector<us_listen_address_t> addresses() const;  // while it listens
    std::vector<int> listening_descriptors() const;
    bool run(int signal_fd, PyObject *rearm_signals);
    void forked();  // in the child
    // Inside an event loop of Python's, on this thread: pump() whenever descriptor() is readable. Its reader goes before
    // detach_loop(), which closes it when the server is over; by any thread, when no thread can pump any more.
    enum class Pumped {
        kGoesOn,
        kOver,  // it has stopped and its last connection is gone: detach
        kWaitsForTasks,  // the same, by force, but coroutines have not ended yet
    };
    bool attach_loop();
    int descriptor() const;
    bool pump(Pumped *pumped);
    bool detach_loop();
    bool ask_for_event_loop();
    void task_ended();  // the last of the coroutines'
    bool running() const { return loop_thread.load(std::memory_order_relaxed) != 0 && !is_forked; }
    void apply_options();
    // TLS for connections from now on; the first time before listening. On the loop thread.
    bool set_tls(us_tls_config_t *config);
    bool is_secure() const { return tls_ != nullptr; }

    // --- threads ---
    static constexpr unsigned long kNoThread = ~0ul;
    bool on_loop_thread() const {
        unsigned long thread = loop_thread.load(std::memory_order_relaxed);
        return thread == 0 || thread == PyThread_get_thread_ident();
    }
    // RuntimeError that names both threads (or the fork); always false.
    bool refuse_thread(const char *call);
    bool check_loop_thread(const char *call) { return on_loop_thread() || refuse_thread(call); }
    bool check_alive(const char *call);  // not forked
    bool check_hooked();  // set_hooks() was called: `self` is there
    // Hands fn to the loop thread. False with RuntimeError set when there is no loop any more.
    bool post(std::function<void(ServerCore &)> fn, const char *call);
    bool post_call(Ref callable, Ref arguments, const char *call);
    // The same with bytes that are copied for it; MemoryError when there is no room for them.
    template <typename F>
    bool post_copy(std::string_view bytes, F fn, const char *call) {
        struct Copy {
            std::string bytes;
            Limits::MemoryCharge kept;
        };
        std::shared_ptr<Copy> copy;
        try {
            copy.reset(new Copy{std::string(bytes), Limits::MemoryCharge(limits, bytes.size())});
        } catch (const std::bad_alloc &) {
            PyErr_NoMemory();
            return false;
        }
        return post([copy, fn](ServerCore &core) {
            copy->kept.release();  // what is left of it after sending is charged to the socket
            fn(core, std::string_view(copy->bytes));
        }, call);
    }

    // --- calls into Python ---
    // An exception out of a handler: to `error`, else logged; KeyboardInterrupt and SystemExit end the run.
    void handler_failed(WsObject *ws, Origin origin);
    // Where a handler's variables are kept; before it, and what is done about its failure (interpreter/contexts.h).
    [[gnu::always_inline]] ContextScope scope(PyObject **slot) {
        // Contexts are left in the reverse order: an idle Task's must not lie under one that is entered here.
        if (contexts.is_in_use() || *slot) [[unlikely]]
            coroutines.leave_if_idle();
        return ContextScope(contexts, slot, coroutines.is_stepping());
    }
    // Logs the current exception, and counts it.
    void log_failure(Origin origin, WsObject *ws = nullptr);
    [[gnu::cold]] void failed(Origin origin);

    // --- WebSockets (websocket/events.cpp) ---
    void on_open(Socket *ws) override;
    void on_message(Socket *ws, std::string_view message, Content content) override;
    void on_unparsed(Socket *ws, std::string_view rest) override;
    void on_drain(Socket *ws) override;
    void on_ping(Socket *ws, std::string_view data) override;
    void on_pong(Socket *ws, std::string_view data) override;
    void on_close(Socket *ws, int code, std::string_view reason) override;
    void on_expire(Socket *ws) override;
    void close_handle(WsObject *handle, int code, std::string_view reason);
    // Its two halves: all but the close handler, and the close handler; the last one logs what memory is short for.
    Ref start_close(WsObject *handle, int code, std::string_view reason);
    void finish_close(Ref handle, int code, std::string_view reason);
    void finish_close_safely(Ref handle, int code, std::string_view reason);
    void terminate_handle(WsObject *handle);

    // The GIL is released during a long fan-out: no Python object is touched, and only this thread touches the sockets and
    // the topics. While no thread runs the loop, the GIL keeps other threads off it.
    bool long_work_begins() override {
        const bool has_thread = running();
        if (has_thread) gil.release();
        return has_thread;
    }
    void long_work_ends() override { gil.ensure(); }
    // For a message from another thread, before it is copied. A refusal is counted.
    bool has_room_to_post(size_t length);

    // Bytes; -1: some backpressure; 0: no subscriber, or a dropped copy (websocket/topics.cpp)
    Py_ssize_t publish(Socket *sender, std::string_view topic, std::string_view message, Opcode opcode, bool compress);

    // --- HTTP (request/answers.cpp) ---
    void on_request(HttpConnection &conn) override;
    void on_settled(HttpConnection &conn) override;

    // GC
    int traverse(visitproc visit, void *arg);
    void clear();

    ModuleState *const state;
    PyObject *self = nullptr;  // borrowed: the Python object that owns this
    Limits limits;  // outlives the instance, which uses it
    std::unique_ptr<Instance> instance;
    WebSocketOptions options;
    Ref dispatch, log_exception, on_stopped, on_refused, on_event_loop_wanted;
    Ref on_unknown_protocol;  // called once, and then gone
    HandlerErrors handler_errors;
    ConnectionLog connections_log;
    RunningHandlers running_handlers{*this};
    Contexts contexts;
    Coroutines coroutines{*this};
    PostedWork posted_work{*this};
    Stop stop{*this};
    LoopGil gil;
    std::atomic<unsigned long> loop_thread{0};
    std::shared_ptr<DeferredFree> deferred_free = std::make_shared<DeferredFree>();
    std::vector<us_listen_socket_t *> listeners;  // the instance's; empty once it stops
    int local_port = 0;
    us_networks_t proxy_networks{};  // of the trusted proxies, as the listening context looks at them
    uint32_t pending_websockets = 0;
    bool proxy_protocol = false;
    unsigned http_idle_timeout = 10;
    unsigned keep_alive_timeout = 75;
    uint32_t min_body_rate = 240;
    uint64_t max_request_body_size = 16ull << 20;
    std::vector<WsObject *> unfinished;  // owned: closed, but their close handler waits (websocket/queue.h)
    bool finished = false, is_forked = false;

  private:
    bool post(PostedWork::Work work, const char *call);
    bool make_engine();
    bool cannot_listen(int error, int gai, const char *where);
    bool check_can_run(const char *call);
    bool raise_run_error();
    bool leave_fork();
    void end_scope();
    void finish_if_idle();
    void finish();
    void abandon_handles();
    bool is_still() const;
    static void on_release(void *self);
    static void on_report(void *self, const Refusals::Counts &counts, double seconds);
    static void on_signal(void *self);
    void rearm_signals();

    std::unique_ptr<us_tls_config_t, DropTls> tls_;
    bool break_ = false, finishing_ = false;
    bool embedded_ = false;  // an event loop of Python's calls pump()
    Ref run_error_;
    int signal_fd_ = -1;
    Ref rearm_signals_;  // while run() runs on the main thread
};

}  // namespace uwserve
