// What few sockets need: events that wait, and those who wait for events. A WsObject has one pointer to it, NULL until
// the first need, so that a connection without pays 8 bytes and a compare.
//
// Events wait (in the order of arrival) while
//   - a coroutine runs that they must not overtake: any handler's, with the option `serial`; the open handler's, for
//     messages, when no message handler would take them (it may be about to call ws.messages());
//   - ws.messages() is being iterated: the iterator takes the messages;
//   - as many handlers run as may (coroutines/running_handlers.h).
// The queue is bounded by count and by bytes. Past the bound the socket is not read (US_PAUSE_QUEUE); what the parser has
// not looked at yet of what was read is kept, raw, in `unparsed`, so that the bound holds however small, or however well
// compressed, messages are. Below half the bound, reading goes on.
//
// Owned by the handle and freed with it. Touched with the GIL only; what touches the socket runs on the loop's thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "py/coroutines/step.h"
#include "py/websocket/object.h"

namespace uwserve {

struct MessagesObject;

constexpr size_t kMaxQueuedEvents = 64;
constexpr size_t kMaxQueuedBytes = 1u << 20;

enum class EventKind : uint8_t { kMessage, kDrain, kPing, kPong };

struct WsEvent {
    EventKind kind;
    Ref payload;  // none for kDrain
    size_t bytes = 0;  // what it takes in memory
    bool as_view = false;  // a handler gets a memoryview of it
};

enum class Hold : uint8_t {
    kNothing,
    kMessages,  // an open handler runs that may yet iterate
    kAll,  // serial: a handler runs
};

struct WsQueue {
    explicit WsQueue(Limits &limits) : kept(limits, 0) {}

    bool empty() const { return first == events.size(); }
    size_t count() const { return events.size() - first; }
    bool is_full() const { return is_crowded || count() >= kMaxQueuedEvents || bytes >= kMaxQueuedBytes; }
    bool is_low() const { return !is_crowded && count() <= kMaxQueuedEvents / 2 && bytes <= kMaxQueuedBytes / 2; }
    void push(WsEvent event);  // throws std::bad_alloc
    // The event at `index` from the front.
    WsEvent take(size_t index);
    const WsEvent &at(size_t index) const { return events[first + index]; }
    void clear();
    bool has_message() const {
        return has([](EventKind kind) { return kind == EventKind::kMessage; });
    }
    bool has_others() const {
        return has([](EventKind kind) { return kind != EventKind::kMessage; });
    }
    template <typename F>
    bool has(F is_wanted) const {
        for (size_t i = 0; i < count(); i++) {
            if (is_wanted(at(i).kind)) return true;
        }
        return false;
    }
    void charge() { kept.change(bytes + unparsed.size()); }

    // Whether a message, or another event, must line up.
    bool takes_messages() const { return iterator || hold != Hold::kNothing || is_crowded || !empty(); }
    bool takes_others() const {
        return !iterator && (hold == Hold::kAll || is_crowded || (hold == Hold::kNothing && !empty()));
    }

    struct Waiter {
        Ref callback;  // callback(None) when drained, callback((code, reason)) when closed
        size_t mark;  // of the backlog; kOnlyClose for closed()
    };
    static constexpr size_t kOnlyClose = SIZE_MAX;

    std::vector<WsEvent> events;  // from `first` on
    size_t first = 0;
    size_t bytes = 0;
    Limits::MemoryCharge kept;  // `bytes` and those of `unparsed`
    std::string unparsed;
    size_t parsed = 0;  // of `unparsed`, in the meantime
    std::vector<Waiter> waiters;
    Ref task;  // the coroutine that `hold` is for
    std::string close_reason;  // with WsObject::close_code
    MessagesObject *iterator = nullptr;  // borrowed: it takes itself away
    Hold hold = Hold::kNothing;
    bool is_pumping = false;
    bool is_paused = false;  // for US_PAUSE_QUEUE
    bool is_crowded = false;  // too many handlers run (coroutines/running_handlers.h)
    bool is_in_line =
        false;  // has a place among those that wait for the server's bound (coroutines/running_handlers.h)
    bool is_reading_soon = false;  // continue_reading() was posted
    bool is_redelivering = false;  // `unparsed` is being parsed
    bool has_drain = false;  // an event of this kind is in the queue: one says it all
    bool close_is_due = false;  // the socket is closed, its close handler has not run
};

// The handle's queue, made if need be; NULL with MemoryError set.
WsQueue *queue_of(WsObject *handle);
int traverse_queue(WsQueue &queue, visitproc visit, void *arg);

// --- events coming in; loop thread, GIL. True: it lines up, or was dealt with otherwise. ---
bool queue_message(ServerCore &core, WsObject *handle, std::string_view message, Content content);
bool queue_control(ServerCore &core, WsObject *handle, EventKind kind, std::string_view data);
bool queue_drain(WsObject *handle);
void keep_unparsed(WsObject *handle, std::string_view rest);

// --- events going out ---
// run_coroutine() of what a handler other than close has returned; if it suspends, what must not overtake it waits.
void run_held(ServerCore &core, WsObject *handle, Ref coroutine, Origin origin, Hold hold);
// `argument` is what the handler holds if it suspends, or NULL.
[[gnu::always_inline]] inline void run_in_order(ServerCore &core, WsObject *handle, Ref coroutine, PyObject *argument,
                                                Origin origin) {
    RunningHandlers::Argument scope(core.running_handlers, argument);
    if (handle && core.options.serial) {
        run_held(core, handle, std::move(coroutine), origin, Hold::kAll);
    } else if (!core.options.message && origin == Origin::kOpen) {
        run_held(core, handle, std::move(coroutine), origin, Hold::kMessages);
    } else {
        core.coroutines.run(handle, std::move(coroutine), origin, handle ? handle->context : nullptr);
    }
}
// Delivers what may be delivered. Loop thread, GIL; no handler of this socket may be on the stack, but for its own.
void pump_events(ServerCore &core, WsObject *handle);
// The same, soon. Any thread, GIL.
void pump_soon(WsObject *handle);
// The oldest message in the queue, for an iterator. Any thread, GIL.
Ref take_message(WsObject *handle);
// Reads on, if the queue has room and nothing else keeps the socket from it. Any thread, GIL.
void continue_reading(WsObject *handle);

// The event loop that the coroutines ran in is gone, and with it what was waited for.
void end_holds(ServerCore &core);

// --- the end of the socket; loop thread, GIL ---
// For those who ask later. Runs no Python code.
void note_close(WsObject *handle, int code, std::string_view reason);
// Whether the close handler must wait: then it runs later, and whoever waits for the close is woken. `keep` is the instance's
// reference.
bool defer_close(ServerCore &core, Ref &keep);
// Runs every close handler that waits, and drops what it waits for: a stop that takes no time.
void finish_closes(ServerCore &core);

// --- who waits (websocket/waiters.cpp); GIL ---
void wake_drained(ServerCore &core, WsObject *handle);  // loop thread
void wake_closed(ServerCore &core, WsObject *handle);
extern PyMethodDef kWaitMethods[];

// --- ws.messages() (websocket/messages.cpp); GIL ---
bool add_messages_types(PyObject *module, ModuleState *state);
// A message has come, or there will be no more.
void wake_iterator(ServerCore &core, MessagesObject *iterator);
extern PyMethodDef kMessagesMethods[];

}  // namespace uwserve
