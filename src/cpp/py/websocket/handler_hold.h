// Events of a socket wait for a coroutine that they must not overtake. With the option `serial`, all events wait for
// the coroutine of any handler. Without a message handler, messages wait for the coroutine of the open handler, as it
// may be about to call ws.messages().
#pragma once

#include "py/coroutines/first_step.h"
#include "py/websocket/object.h"

namespace uwserve {

struct Hold {
    enum class Kind : uint8_t {
        kNone,
        kMessages,  // an open handler runs that may yet iterate
        kAll,  // serial: a handler's coroutine runs
    };
    bool is_set() const { return kind != Kind::kNone; }

    Kind kind = Kind::kNone;
    Ref task;  // of the coroutine
};

// run_coroutine() for a handler other than close; if the coroutine suspends, events that must not overtake it wait.
void run_held(ServerCore &core, WsObject *handle, Ref coroutine, Origin origin, Hold::Kind kind);
// Chooses how the coroutine runs. `argument` is the object that the handler holds if it suspends, or NULL.
[[gnu::always_inline]] inline void run_in_order(ServerCore &core, WsObject *handle, Ref coroutine, PyObject *argument,
                                                Origin origin) {
    RunningHandlers::Argument scope(core.running_handlers, argument);
    if (handle && core.options.serial) {
        run_held(core, handle, std::move(coroutine), origin, Hold::Kind::kAll);
    } else if (!core.options.message && origin == Origin::kOpen) {
        run_held(core, handle, std::move(coroutine), origin, Hold::Kind::kMessages);
    } else {
        start_coroutine(core, handle, std::move(coroutine), origin, handle ? handle->context : nullptr);
    }
}

// Ends every hold: the event loop of the coroutines is gone, so they never end.
void end_holds(ServerCore &core);

}  // namespace uwserve
