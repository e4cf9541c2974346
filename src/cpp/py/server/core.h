// A server: the instance, the handlers, and the rules by which Python may use them. It composes parts with one job
// each.
//
// Threads. The loop's thread is the thread inside Run::run_to_end(), or of the event loop that the server is attached
// to. While there is one, only this thread touches the instance; other threads post operations, which the loop's thread
// runs in order. While there is none, any thread with the GIL may touch the instance, within a DispatchScope. All
// Python state (handlers, handles, requests) is touched with the GIL only.
//
// Turns. Posted work, handlers of other sockets and the work of a stop on them run at the top of a turn only, with no
// user code on the stack and no socket corked. A call may run one handler, of the socket that it names (close,
// terminate, upgrade); this handler finds the caller's socket corked, and leaves it so. No function for Python code
// runs posted work.
//
// Lifetime. Every ServerWebSocket and Request holds a strong reference to the Python object that owns this core; the
// instance holds a reference to the handle of every open socket. The instance is destroyed after its last connection
// (server/finish.h), or by the destructor; from then on every call gives its "closed" answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "py/coroutines/coroutines.h"
#include "py/interpreter/contexts.h"
#include "py/interpreter/exception_barrier.h"
#include "py/interpreter/gil.h"
#include "py/interpreter/state.h"
#include "py/server/connection_log.h"
#include "py/server/finish.h"
#include "py/server/handler_errors.h"
#include "py/server/posted_work.h"
#include "py/server/run.h"
#include "py/server/stop.h"
#include "py/websocket/deferred_free.h"
#include "uws/upstream/instance.h"

namespace uwserve {

struct WsObject;
struct RequestObject;

// Handlers of `websocket` and options for them; replaced whole by reload. The others are in Limits::websocket.
struct WebSocketOptions {
    Ref open, message, close, drain, ping, pong, error;
    bool serial = false;
    bool enabled = false;
    uint32_t max_concurrent_handlers = 256;
    DeflateOptions deflate;
    std::optional<std::vector<std::string>> protocols;  // none: the first that the client offers
};

class ServerCore final : public WsHandler, public HttpHandler {
  public:
    explicit ServerCore(ModuleState *state);
    ~ServerCore() override;

    // Brackets native work for Python outside a dispatch. As in a dispatch, closes are deferred: to its end, or to the
    // next turn while a thread runs the loop. Messages that it has published are sent soon. The outermost scope of a
    // stopped server that no thread runs finishes the server if the last connection has ended in it.
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
            core_.running() ? entered_->leave_later() : entered_->leave();
            if (core_.stop.has_started() && !core_.running()) core_.finish.after_scope();
        }
        DispatchScope(const DispatchScope &) = delete;
        DispatchScope &operator=(const DispatchScope &) = delete;

      private:
        ServerCore &core_;
        Instance *entered_ = nullptr;
    };

    // --- life cycle; these return false with an exception set ---
    bool make_instance();  // once
    void drop_instance();  // no connection is left, or none that anyone can reach
    void forked();  // in the child
    void apply_options();
    // TLS for new connections; the first call comes before listening. On the loop's thread.
    bool set_tls(const TlsConfig &config);
    bool is_secure() const { return bool(tls_); }

    // --- threads ---
    bool running() const { return run.has_thread() && !is_forked; }
    bool on_loop_thread() const { return run.may_touch_instance(); }
    // RuntimeError that names both threads (or the fork); always false.
    bool refuse_thread(const char *call);
    bool check_loop_thread(const char *call) { return on_loop_thread() || refuse_thread(call); }
    bool check_alive(const char *call);  // not forked
    bool check_hooked();  // set_hooks() was called: `self` is set
    // Hands the function to the loop's thread. False with RuntimeError set when the instance is gone.
    bool post(std::function<void(ServerCore &)> function, const char *call);
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
            copy->kept.release();  // the bytes that are left after sending are charged to the socket
            fn(core, std::string_view(copy->bytes));
        }, call);
    }
    // For a message from another thread, before it is copied. A refusal is counted.
    bool has_room_to_post(size_t length);

    // --- calls into Python (server/handler_errors.h) ---
    void handler_failed(WsObject *ws, Origin origin) { handler_errors.handle(ws, origin); }
    void log_failure(Origin origin, WsObject *ws = nullptr) { handler_errors.log(origin, ws); }
    [[gnu::cold]] void failed(Origin origin) { handler_errors.log_native(origin); }
    // Around a handler and the handling of its failure; its variables are kept in the slot (interpreter/contexts.h).
    [[gnu::always_inline]] ContextScope scope(PyObject **slot) {
        // Contexts are left in reverse order, so an idle Task's must not be below one that is entered here.
        if (contexts.is_in_use() || *slot) [[unlikely]]
            coroutines.leave_if_idle();
        return ContextScope(contexts, slot, coroutines.is_stepping());
    }

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
    // Its two halves: all but the close handler, and the close handler. The last function logs failed allocations.
    Ref start_close(WsObject *handle, int code, std::string_view reason);
    void finish_close(Ref handle, int code, std::string_view reason);
    void finish_close_safely(Ref handle, int code, std::string_view reason);
    void terminate_handle(WsObject *handle);

    // The GIL is released during a long fan-out: no Python object is touched, and only this thread touches the sockets
    // and the topics. While no thread runs the loop, the GIL keeps other threads off it.
    bool long_work_begins() override {
        const bool has_thread = running();
        if (has_thread) gil.release();
        return has_thread;
    }
    void long_work_ends() override { gil.ensure(); }

    // Bytes; -1: some backpressure; 0: no subscriber, or a dropped copy (websocket/topics.cpp)
    Py_ssize_t publish(Socket *sender, std::string_view topic, std::string_view message, Opcode opcode, bool compress);

    // --- HTTP (request/answers.cpp) ---
    void on_request(HttpConnection &conn) override;
    void on_settled(HttpConnection &conn) override;

    // --- garbage collection ---
    int traverse(visitproc visit, void *arg);
    void clear();

    ModuleState *const state;
    PyObject *self = nullptr;  // borrowed: the Python object that owns this
    Limits limits;  // outlives the instance, which uses it
    std::unique_ptr<Instance> instance;
    WebSocketOptions options;
    HttpSettings http;
    Ref dispatch, log_exception, on_stopped, on_refused, on_event_loop_wanted;
    Ref on_unknown_protocol;  // called once, and then gone
    HandlerErrors handler_errors{*this};
    ConnectionLog connections_log;
    RunningHandlers running_handlers{*this};
    Contexts contexts;
    Coroutines coroutines{*this};
    PostedWork posted_work{*this};
    Run run{*this};
    Stop stop{*this};
    Finish finish{*this};
    LoopGil gil;
    std::shared_ptr<DeferredFree> deferred_free = std::make_shared<DeferredFree>();
    uint32_t pending_websockets = 0;
    std::vector<WsObject *> unfinished;  // owned: closed, but their close handler waits (websocket/queue.h)
    bool is_forked = false;

  private:
    bool post(PostedWork::Work work, const char *call);
    void abandon_handles();
    bool is_still() const;
    static void on_report(void *self, const Refusals::Counts &counts, double seconds);

    TlsConfig tls_;
};

}  // namespace uwserve
