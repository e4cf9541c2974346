#include "py/websocket/events.h"

#include <atomic>

#include "py/websocket/message_view.h"
#include "py/websocket/queue.h"
#include "uws/websocket/close.h"
#include "uws/websocket/cork.h"
#include "uws/websocket/reading.h"

namespace uwserve {

namespace {

WsObject *handle_of(Socket *ws) { return static_cast<WsObject *>(ws->getUserData()->handle); }
// A handler about to be called, and its socket. Made before the argument: making that can run a finaliser, which may
// close the socket or replace the handlers.
struct Call {
    Call(const Ref &to, WsObject *ws) : handler(Ref::borrow(to.get())), handle(new_ref(ws)) {}
    WsObject *ws() const { return as_ws(handle.get()); }

    // handler(ws) or handler(ws, argument), and what is done about its failure. Not for a socket that has closed since.
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
            if (origin == Origin::kOpen && ws()->ws) core.close_handle(ws(), 1011, {});
        } else if (result.get() != Py_None && is_coroutine(result.get())) {
            scope.close();
            run_in_order(core, ws(), std::move(result), argument, origin);
        }
    }

    // The same with an argument that may have failed to be made.
    void run_with(ServerCore &core, const Ref &argument, Origin origin) const {
        if (argument) [[likely]] {
            run(core, argument.get(), origin);
        } else {
            core.handler_failed(ws(), origin);
        }
    }

    Ref handler, handle;
};

// The socket is closed, and `keep` was the instance's reference: the close handler runs, or will.
void end_handle(ServerCore &core, Ref keep, int code, std::string_view reason) {
    WsObject *handle = as_ws(keep.get());
    note_close(handle, code, reason);
    core.limits.stats.closes.count(code);
    core.connections_log.close(core, handle, core.instance->loop()->tick, code, reason);
    if ((handle->queue || handle->is_busy) && defer_close(core, keep)) return;
    call_close_handler(core, handle, code, reason);
    if (handle->queue) wake_closed(core, handle);
}

void on_control_frame(ServerCore &core, Socket *ws, const Ref &handler, Origin origin, std::string_view data) {
    core.gil.ensure();
    WsObject *handle = handle_of(ws);
    if (handle->queue && queue_control(core, handle, origin, data)) return;
    Call call(handler, handle);
    call.run_with(core, Ref::steal(make_bytes(data)), origin);
}

// The handle is closed from here on. The result is the instance's reference to it.
Ref detach(ServerCore &core, WsObject *handle) {
    handle->ws->getUserData()->handle = nullptr;
    handle->ws = nullptr;
    core.pending_websockets--;
    core.running_handlers.socket_closed(handle);
    return Ref::steal(as_object(handle));
}

}  // namespace

void call_handler(ServerCore &core, const Ref &handler, WsObject *handle, PyObject *argument, Origin origin) {
    if (handler) Call(handler, handle).run_always(core, argument, origin);
}

void call_close_handler(ServerCore &core, WsObject *handle, int code, std::string_view reason) {
    if (!core.options.close) return;
    Ref keep_handler = Ref::borrow(core.options.close.get());
    Ref status = Ref::steal(PyLong_FromLong(code));
    Ref text = Ref::steal(make_utf8(reason, "replace"));
    Ref result;
    core.coroutines.before_call(keep_handler.get());
    ContextScope scope = core.scope(&handle->context);
    if (scope && status && text) {
        PyObject *stack[] = {nullptr, as_object(handle), status.get(), text.get()};
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
    Ref keep = new_ref(handle);
    connections_log.open(*this, handle, instance->loop()->tick);
    if (options.open && handle->ws) Call(options.open, handle).run_always(*this, nullptr, Origin::kOpen);
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
        call.run_with(*this, Ref::steal(make_bytes(message)), Origin::kMessage);
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
    // Without the GIL: another thread may make a queue at this moment; its check for the drain is posted.
    bool has_queue = handle && std::atomic_ref(handle->queue).load(std::memory_order_acquire);
    if (resume_behind_backlog(ws) && has_queue) {
        gil.ensure();
        continue_reading(handle);
    }
    if (!handle || (!options.drain && !has_queue)) return;
    gil.ensure();
    Ref keep = new_ref(handle);
    if (options.drain && !(has_queue && queue_drain(handle))) {
        Call call(options.drain, handle);
        corked(ws, [&] { call.run(*this, nullptr, Origin::kDrain); });
    }
    if (handle->queue) wake_drained(*this, handle);
}

void ServerCore::on_ping(Socket *ws, std::string_view data) {
    pause_behind_backlog(ws);
    limits.stats.received[static_cast<unsigned>(Opcode::kPing)].add(data.size());
    if (options.ping) on_control_frame(*this, ws, options.ping, Origin::kPing, data);
}

void ServerCore::on_pong(Socket *ws, std::string_view data) {
    limits.stats.received[static_cast<unsigned>(Opcode::kPong)].add(data.size());
    if (options.pong) on_control_frame(*this, ws, options.pong, Origin::kPong, data);
}

// The peer has closed, or the connection has failed. If the server has closed the socket, the handle is detached
// already.
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

// At the top of a turn, for one of many sockets: want of memory for one close must not keep the others from being
// closed.
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
