// Events of WebSockets, on their way from uWebSockets to the user's handlers.
//
// A handler is called with its own reference to itself and to the handle, because it may close the socket, reload the
// handlers or drop the last name of anything. Messages are copied into Python objects first (defect L11).
#include <atomic>
#include <cstring>

#include "uws/websocket/close.h"
#include "uws/websocket/cork.h"
#include "uws/websocket/reading.h"
#include "py/websocket/queue.h"

namespace uwserve {

namespace {

WsObject *handle_of(Socket *ws) { return static_cast<WsObject *>(ws->getUserData()->handle); }
PyObject *object(WsObject *handle) { return reinterpret_cast<PyObject *>(handle); }

// A handler about to be called, and its socket. Made before anything else: making the argument can run a finaliser, and
// that may close the socket or replace the handlers.
struct Call {
    Call(const Ref &to, WsObject *ws) : handler(Ref::borrow(to.get())), handle(Ref::borrow(object(ws))) {}
    WsObject *ws() const { return as_ws(handle.get()); }

    // handler(ws) or handler(ws, argument); deals with what it raises. Not called for a socket that has closed since.
    void run(ServerCore &core, PyObject *argument, Origin origin) const {
        if (ws()->ws) [[likely]]
            run_always(core, argument, origin);
    }

    void run_always(ServerCore &core, PyObject *argument, Origin origin) const {
        core.coroutines.before_call(handler.get());
        PyObject *stack[] = {nullptr, handle.get(), argument};
        size_t count = argument ? 2 : 1;
        ContextScope scope = core.scope(&ws()->context);
        Ref result;
        if (scope) [[likely]] {
            result = Ref::steal(guarded<PyObject_Vectorcall>(handler.get(), stack + 1,
                                                             count | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
        }
        if (!result) [[unlikely]] {
            core.handler_failed(ws(), origin);
        } else if (result.get() != Py_None && is_coroutine(result.get())) {
            scope.close();
            run_in_order(core, ws(), std::move(result), argument, origin);
        }
    }

    // The same with an argument whose making may have failed.
    void run_with(ServerCore &core, const Ref &argument, Origin origin) const {
        if (argument) [[likely]] {
            run(core, argument.get(), origin);
        } else {
            core.handler_failed(ws(), origin);
        }
    }

    Ref handler, handle;
};

Ref bytes(std::string_view data) {
    return Ref::steal(PyBytes_FromStringAndSize(data.data(), static_cast<Py_ssize_t>(data.size())));
}

// The socket is closed and `keep` was the instance's reference: the close handler runs, or will.
void end_handle(ServerCore &core, Ref keep, int code, std::string_view reason) {
    WsObject *handle = as_ws(keep.get());
    note_close(handle, code, reason);
    core.limits.stats.closes.count(code);
    core.connections_log.close(core, handle, core.instance->loop()->tick, code, reason);
    if ((handle->queue || handle->is_busy) && defer_close(core, keep)) return;
    call_close_handler(core, handle, code, reason);
    if (handle->queue) wake_closed(core, handle);
}

// The handle is closed from here on. The result is the instance's reference to it.
Ref detach(ServerCore &core, WsObject *handle) {
    handle->ws->getUserData()->handle = nullptr;
    handle->ws = nullptr;
    core.pending_websockets--;
    core.running_handlers.socket_closed(handle);
    return Ref::steal(object(handle));
}

}  // namespace

void call_handler(ServerCore &core, const Ref &handler, WsObject *handle, PyObject *argument, Origin origin) {
    if (handler) Call(handler, handle).run_always(core, argument, origin);
}

void call_close_handler(ServerCore &core, WsObject *handle, int code, std::string_view reason) {
    if (!core.options.close) return;
    Ref keep_handler = Ref::borrow(core.options.close.get());
    Ref status = Ref::steal(PyLong_FromLong(code));
    Ref text = Ref::steal(PyUnicode_DecodeUTF8(reason.data(), static_cast<Py_ssize_t>(reason.size()), "replace"));
    Ref result;
    core.coroutines.before_call(keep_handler.get());
    ContextScope scope = core.scope(&handle->context);
    if (scope && status && text) {
        PyObject *stack[] = {nullptr, object(handle), status.get(), text.get()};
        result = Ref::steal(
            guarded<PyObject_Vectorcall>(keep_handler.get(), stack + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
    }
    if (!result) {
        core.handler_failed(handle, Origin::kClose);
    } else if (result.get() != Py_None && is_coroutine(result.get())) {
        scope.close();
        run_coroutine(core, handle, std::move(result), Origin::kClose);
    }
}

void ServerCore::on_open(Socket *ws) {
    WsObject *handle = handle_of(ws);
    gil.ensure();
    handle->ws = ws;
    pending_websockets++;
    limits.stats.upgrades.add();
    handle->id = limits.stats.upgrades.get();
    Ref keep = Ref::borrow(object(handle));
    connections_log.open(*this, handle, instance->loop()->tick);
    if (!options.open || !handle->ws) return;
    Ref handler = Ref::borrow(options.open.get());
    coroutines.before_call(handler.get());
    ContextScope scope = this->scope(&handle->context);
    Ref result = scope ? Ref::steal(guarded<PyObject_CallOneArg>(handler.get(), object(handle))) : Ref();
    if (result) {
        if (result.get() != Py_None && is_coroutine(result.get())) {
            scope.close();
            run_in_order(*this, handle, std::move(result), nullptr, Origin::kOpen);
        }
        return;
    }
    handler_failed(handle, Origin::kOpen);
    if (handle->ws) close_handle(handle, 1011, {});
}

void ServerCore::on_message(Socket *ws, std::string_view message, Content content) {
    gil.ensure();
    limits.stats.received[static_cast<unsigned>(content == Content::kBinary ? Opcode::kBinary : Opcode::kText)].add(
        message.size());
    WsObject *handle = handle_of(ws);
    if (handle->queue && queue_message(*this, handle, message, content)) [[unlikely]]
        return;
    if (!options.message) return;
    Call call(options.message, handle);
    if (content != Content::kBinary) {
        call.run_with(*this, Ref::steal(decode_text(message, content == Content::kAscii)), Origin::kMessage);
    } else if (call.ws()->binary_type == BinaryType::kBytes) [[likely]] {
        call.run_with(*this, bytes(message), Origin::kMessage);
    } else {
        BinaryMessage content = make_binary(*this, ws, call.ws()->binary_type, message);
        call.run_with(*this, content.object, Origin::kMessage);
        if (content.object && content.owner) release_view(*this, content);
    }
}

void ServerCore::on_unparsed(Socket *ws, std::string_view rest) {
    gil.ensure();
    keep_unparsed(handle_of(ws), rest);
}

void ServerCore::on_drain(Socket *ws) {
    WsObject *handle = handle_of(ws);
    // Without the GIL: another thread may make one at this moment, and then posts what it waits for.
    bool has_queue = handle && std::atomic_ref(handle->queue).load(std::memory_order_acquire);
    if (resume_behind_backlog(ws) && has_queue) {
        gil.ensure();
        continue_reading(handle);
    }
    if (!handle || (!options.drain && !has_queue)) return;
    gil.ensure();
    Ref keep = Ref::borrow(object(handle));
    if (options.drain && !(has_queue && queue_drain(handle))) {
        Call call(options.drain, handle);
        corked(ws, [&] { call.run(*this, nullptr, Origin::kDrain); });
    }
    if (handle->queue) wake_drained(*this, handle);
}

void ServerCore::on_ping(Socket *ws, std::string_view data) {
    pause_behind_backlog(ws);
    limits.stats.received[static_cast<unsigned>(Opcode::kPing)].add(data.size());
    if (!options.ping) return;
    gil.ensure();
    WsObject *handle = handle_of(ws);
    if (handle->queue && queue_control(*this, handle, EventKind::kPing, data)) return;
    Call call(options.ping, handle);
    call.run_with(*this, bytes(data), Origin::kPing);
}

void ServerCore::on_pong(Socket *ws, std::string_view data) {
    limits.stats.received[static_cast<unsigned>(Opcode::kPong)].add(data.size());
    if (!options.pong) return;
    gil.ensure();
    WsObject *handle = handle_of(ws);
    if (handle->queue && queue_control(*this, handle, EventKind::kPong, data)) return;
    Call call(options.pong, handle);
    call.run_with(*this, bytes(data), Origin::kPong);
}

// The peer closed, or the connection failed. For closes of our own the handle is detached already.
void ServerCore::on_close(Socket *ws, int code, std::string_view reason) {
    WsObject *handle = handle_of(ws);
    if (!handle) return;
    gil.ensure();
    uwserve::finish_close(ws);
    end_handle(*this, detach(*this, handle), code, reason);
}

void ServerCore::close_handle(WsObject *handle, int code, std::string_view reason) {
    finish_close(start_close(handle, code, reason), code, reason);
}

void ServerCore::finish_close(Ref handle, int code, std::string_view reason) {
    end_handle(*this, std::move(handle), code, reason);
}

// At the top of a turn, for one of many: memory that is short for one close must not keep the others from being closed.
void ServerCore::finish_close_safely(Ref handle, int code, std::string_view reason) {
    try {
        finish_close(std::move(handle), code, reason);
    } catch (const std::exception &) {
        failed(Origin::kClose);
    }
}

void ServerCore::on_expire(Socket *ws) {
    gil.ensure();
    if (WsObject *handle = handle_of(ws)) close_handle(handle, 1001, "Maximum lifetime reached");
}

// No Python code runs in here. The result is the instance's reference to the handle.
Ref ServerCore::start_close(WsObject *handle, int code, std::string_view reason) {
    Socket *ws = handle->ws;
    Ref keep = detach(*this, handle);
    note_close(handle, code, reason);
    uwserve::start_close(ws, code, reason);
    return keep;
}

void ServerCore::terminate_handle(WsObject *handle) {
    Socket *ws = handle->ws;
    Ref keep = detach(*this, handle);
    terminate(ws);
    end_handle(*this, std::move(keep), 1006, {});
}

}  // namespace uwserve
