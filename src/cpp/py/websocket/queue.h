// State that only a few sockets need: queued events, and what belongs to them. A WsObject has one pointer to it, NULL
// until the first need, so that other connections pay 8 bytes and a compare.
//
// Events wait (in the order of arrival) while
//   - a coroutine runs that they must not overtake (handler_hold.h);
//   - ws.messages() is being iterated: the iterator takes the messages;
//   - as many handlers run as are allowed (coroutines/running_handlers.h).
// The queue is bounded by count and by bytes (event_queue.h). Past the bound the socket is not read (reading.h); bytes
// that were read before and not parsed are kept (uws/websocket/queue_pause.h). Below half the bound, reading goes on.
//
// Owned by the handle and freed with it. GIL; functions that use the socket run on the loop's thread.
#pragma once

#include <vector>

#include "py/websocket/deferred_close.h"
#include "py/websocket/event_queue.h"
#include "py/websocket/handler_hold.h"
#include "py/websocket/messages.h"
#include "py/websocket/object.h"
#include "py/websocket/reading.h"
#include "py/websocket/waiters.h"
#include "uws/websocket/queue_pause.h"

namespace uwserve {

struct WsQueue {
    explicit WsQueue(Limits &limits) : charged(limits, 0) {}

    bool is_full() const { return is_crowded || events.is_full(); }
    bool is_low() const { return !is_crowded && events.is_low(); }
    void push(WsEvent event);  // throws std::bad_alloc
    WsEvent take(size_t index);
    void clear();
    void charge() { charged.change(events.bytes() + unparsed.size()); }

    // Whether a message, or another event, must wait in the queue.
    bool takes_messages() const { return iterator || hold.is_set() || is_crowded || !events.is_empty(); }
    bool takes_others() const {
        return !iterator && (hold.kind == Hold::Kind::kAll || is_crowded || (!hold.is_set() && !events.is_empty()));
    }

    EventQueue events;
    UnparsedBytes unparsed;
    Limits::MemoryCharge charged;  // for both
    ReadPause pause;
    Hold hold;
    DeferredClose close;
    std::vector<Waiter> waiters;
    MessagesObject *iterator = nullptr;  // borrowed: it clears this before it is freed
    bool is_delivering = false;
    bool is_crowded = false;  // too many handlers run (coroutines/running_handlers.h)
    bool is_in_line = false;  // waits for the bound of the server (coroutines/running_handlers.h)
};

// The handle's queue, made if need be; NULL with MemoryError set.
WsQueue *queue_of(WsObject *handle);
int traverse_queue(WsQueue &queue, visitproc visit, void *arg);

// --- events coming in; loop thread, GIL. True: the event waits in the queue, or was dealt with otherwise. ---
bool queue_message(ServerCore &core, WsObject *handle, std::string_view message, Content content);
bool queue_control(ServerCore &core, WsObject *handle, Origin origin, std::string_view data);
bool queue_drain(WsObject *handle);

// --- events going out ---
// Delivers the events that may be delivered. Loop thread, GIL; no other handler of this socket may be on the stack.
void deliver_events(ServerCore &core, WsObject *handle);
// Posts that. Any thread, GIL.
void deliver_soon(WsObject *handle);
// The oldest message in the queue, for an iterator. Any thread, GIL.
Ref take_message(WsObject *handle);

}  // namespace uwserve
