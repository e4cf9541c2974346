#include "py/websocket/reading.h"

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
    Socket *ws = handle->ws;
    // If the socket stays paused for another reason, the end of that pause comes here.
    if (!ws || !queue.pause.is_on || queue.is_full() || !resume_from_queue(ws)) return;
    queue.pause.is_on = false;
    auto may_go_on = [&] {
        core.gil.ensure();
        return handle->ws && may_parse(ws);
    };
    queue.unparsed.parse(ws, may_go_on);
    core.gil.ensure();
    if (!handle->ws || queue.unparsed.is_parsed()) {
        queue.unparsed.clear();
    } else if (!queue.pause.is_on) {
        // A handler has paused the socket, or other sockets have their turn: the rest is parsed before new bytes.
        const bool is_put_off = may_go_on();
        pause_reading(handle);
        if (is_put_off) continue_reading(handle);
    }
    queue.charge();
}

}  // namespace

void pause_reading(WsObject *handle) {
    handle->queue->pause.is_on = true;
    pause_for_queue(handle->ws);
}

void keep_unparsed(WsObject *handle, std::string_view rest) {
    try {
        handle->queue->unparsed.add(rest);
    } catch (const std::bad_alloc &) {
        fail_connection(raw(handle->ws), kNoMemory);
        return;
    }
    handle->queue->charge();
}

void continue_reading(WsObject *handle) {
    WsQueue &queue = *handle->queue;
    if (!queue.pause.is_on || queue.pause.is_ending || !queue.is_low()) return;
    if (!queue.events.is_empty() && !handle->core->limits.has_memory_elsewhere(0)) return;
    queue.pause.is_ending = true;
    if (!post_for(handle, "ServerWebSocket", read_on)) PyErr_Clear();  // the server has ended: there is nothing to read
}

}  // namespace uwserve
