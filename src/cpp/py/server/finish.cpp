#include "py/server/finish.h"

#include "py/server/core.h"

namespace uwserve {

void Finish::after_scope() try {
    if (core_.instance && !core_.instance->is_in_callback())
        core_.instance->run_deferred();  // closes that a DispatchScope has left to the next turn
    if (core_.stop.is_due() || (core_.stop.is_forced() && !core_.unfinished.empty())) core_.stop.run_due();
    run_if_idle();
} catch (const std::exception &) {
    core_.failed(Origin::kStop);
}

void Finish::task_ended() {
    if (!core_.instance || !core_.stop.has_started() || core_.is_forked) return;
    if (core_.running()) {
        core_.instance->wake_up();
    } else {
        run_if_idle();
    }
}

void Finish::run_if_idle() {
    if (core_.instance && !core_.instance->is_in_callback() && !core_.instance->has_work() &&
        !core_.coroutines.has_tasks()) {
        run();
    }
}

void Finish::run() {
    if (is_done_ || has_begun_) return;
    has_begun_ = true;
    SavedError error;
    core_.posted_work.run();
    core_.limits.refusals.detach();  // with the last report
    is_done_ = true;
    core_.running_handlers.clear();
    core_.drop_instance();
    if (!core_.on_stopped) return;
    Ref hook = Ref::borrow(core_.on_stopped.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!result) core_.log_failure(Origin::kStop);
}

}  // namespace uwserve
