#include "py/websocket/reading.h"

#include <algorithm>
#include <memory>
#include <new>

#include "py/websocket/queue.h"
#include "uws/websocket/close.h"

namespace uwserve {

namespace {

// Parses what was read before the pause, as far as the queue takes it, then lets the socket be read. Not inside a
// dispatch of this socket.
void read_on(ServerCore &core, WsObject *handle) {
    WsQueue &queue = *handle->queue;
    queue.pause.is_ending = false;
    if (!handle->ws || !queue.pause.is_on || queue.is_full()) return;
    us_socket_t *s = raw(handle->ws);
    if (s->pause_reasons & (US_PAUSE_USER | US_PAUSE_BACKLOG)) return;  // what takes that back comes here
    queue.pause.is_on = false;
    us_socket_resume(s, US_PAUSE_QUEUE);
    core.instance->lifecycle().idle_timeout.restart(s);
    // What HttpConnections holds back (US_PAUSE_HELD) has come later, and lines up behind this.
    auto may_go_on = [&] { return !s->closed && handle->ws && !(s->pause_reasons & ~US_PAUSE_HELD); };
    const Turn turn;
    UnparsedBytes &unparsed = queue.unparsed;
    const size_t end = std::min(unparsed.parsed() + kTurnBytes, unparsed.size());
    while (unparsed.parsed() < end && may_go_on() && !turn.is_over()) {
        unparsed.parse(std::min(kTurnPiece, end - unparsed.parsed()), [&](char *data, size_t length) {
            us_socket_deliver(s, data, length);
            core.gil.ensure();
        });
    }
    if (!handle->ws || unparsed.is_parsed()) {
        unparsed.clear();
    } else if (!queue.pause
                    .is_on) {  // by a handler, for another reason, or others have their turn: the rest comes first
        const bool is_put_off = may_go_on();
        pause_reading(queue, s);
        if (is_put_off) continue_reading(handle);
    }
    queue.charge();
}

}  // namespace

void pause_reading(WsQueue &queue, us_socket_t *s) {
    queue.pause.is_on = true;
    us_socket_pause(s, US_PAUSE_QUEUE);
}

void keep_unparsed(WsObject *handle, std::string_view rest) {
    WsQueue &queue = *handle->queue;
    try {
        queue.unparsed.add(rest);
    } catch (const std::bad_alloc &) {
        fail_connection(raw(handle->ws), kNoMemory);
        return;
    }
    queue.charge();
}

void continue_reading(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (!queue.pause.is_on || queue.pause.is_ending || !queue.is_low()) return;
    ServerCore &core = *handle->core;
    if (!queue.events.is_empty() && !core.limits.has_memory_elsewhere(0)) return;
    auto keep = std::make_shared<Ref>(Ref::borrow(reinterpret_cast<PyObject *>(handle)));
    queue.pause.is_ending = true;
    if (!core.post([keep](ServerCore &core) { read_on(core, as_ws(keep->get())); }, "ServerWebSocket")) {
        PyErr_Clear();  // the server has ended: there is nothing to read
    }
}

}  // namespace uwserve
