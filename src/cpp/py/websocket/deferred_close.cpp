#include "py/websocket/deferred_close.h"

#include <algorithm>
#include <new>

#include "py/websocket/events.h"
#include "py/websocket/queue.h"

namespace uwserve {

void note_close(WsObject *handle, int code, std::string_view reason) {
    handle->close_code = static_cast<uint16_t>(code);
    if (reason.empty()) return;
    try {
        if (WsQueue *queue = queue_of(handle)) {
            queue->close.reason = reason;
            return;
        }
        PyErr_Clear();
    } catch (const std::bad_alloc &) {
    }
    // Without memory for it, the reason is lost.
}

bool defer_close(ServerCore &core, Ref &keep) {
    Ref own = Ref::borrow(keep.get());
    WsObject *handle = as_ws(own.get());
    bool must_wait = handle->is_busy && !core.stop.is_forced();
    WsQueue *queue = queue_of(handle);
    if (!queue) {
        PyErr_Clear();
        return false;
    }
    try {
        if (core.stop.is_forced() && !queue->iterator) queue->clear();
        bool goes_on = !queue->events.is_empty() && !queue->iterator && !queue->hold.is_set();
        must_wait |= (queue->hold.kind == Hold::Kind::kAll || goes_on) && !core.stop.is_forced();
        if (must_wait) core.unfinished.push_back(handle);
    } catch (const std::bad_alloc &) {
        if (queue->iterator) wake_iterator(core, queue->iterator);
        return false;
    }
    queue->unparsed.clear();
    queue->charge();
    if (must_wait) {
        keep.release();  // `unfinished` owns it now
        queue->close.is_due = true;
        core.instance->hold_open();
        wake_closed(core, handle);
    }
    if (queue->iterator) wake_iterator(core, queue->iterator);
    return must_wait;
}

void run_deferred_close(ServerCore &core, WsObject *handle) {
    WsQueue &queue = *handle->queue;
    queue.close.is_due = false;
    auto found = std::find(core.unfinished.begin(), core.unfinished.end(), handle);
    Ref keep = Ref::steal(as_object(handle));
    *found = core.unfinished.back();
    core.unfinished.pop_back();
    core.instance->release_hold();
    call_close_handler(core, handle, handle->close_code, queue.close.reason);
}

void finish_closes(ServerCore &core) {
    while (!core.unfinished.empty()) {
        WsObject *handle = core.unfinished.back();
        if (!handle->queue->iterator) handle->queue->clear();
        run_deferred_close(core, handle);
    }
}

}  // namespace uwserve
