// Events of a socket wait for a coroutine that they must not overtake: any handler's, with the option `serial`; the open
// handler's, for messages, when no message handler would take them (it may be about to call ws.messages()).
#pragma once

#include "py/coroutines/step.h"
#include "py/websocket/object.h"

namespace uwserve {

struct Hold {
    enum class Kind : uint8_t {
        kNone,
        kMessages,  // an open handler runs that may yet iterate
        kAll,  // serial: a handler runs
    };
    bool is_set() const { return kind != Kind::kNone; }

    Kind kind = Kind::kNone;
    Ref task;  // the coroutine's
};

// run_coroutine() of what a handler other than close has returned; if it suspends, what must not overtake it waits.
void run_held(ServerCore &core, WsObject *handle, Ref coroutine, Origin origin, Hold::Kind kind);
// `argument` is what the handler holds if it suspends, or NULL.
[[gnu::always_inline]] inline void run_in_order(ServerCore &core, WsObject *handle, Ref coroutine, PyObject *argument,
                                                Origin origin) {
    RunningHandlers::Argument scope(core.running_handlers, argument);
    if (handle && core.options.serial) {
        run_held(core, handle, std::move(coroutine), origin, Hold::Kind::kAll);
    } else if (!core.options.message && origin == Origin::kOpen) {
        run_held(core, handle, std::move(coroutine), origin, Hold::Kind::kMessages);
    } else {
        core.coroutines.run(handle, std::move(coroutine), origin, handle ? handle->context : nullptr);
    }
}

// The event loop that the coroutines ran in is gone, and they never end.
void end_holds(ServerCore &core);

}  // namespace uwserve
