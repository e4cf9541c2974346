#include "py/server/posted_work.h"

#include <algorithm>

#include "py/coroutines/first_step.h"
#include "py/server/core.h"

namespace uwserve {

namespace {

// When nothing else is left of a server, functions that post functions run for this many rounds.
constexpr int kLastRounds = 100;

}  // namespace

void PostedWork::add(Work work) {
    bool is_first;
    {
        std::lock_guard lock(mutex_);
        is_first = posted_.empty();
        posted_.push_back(std::move(work));
    }
    if (is_first) core_.instance->defer([this] { run(); });  // does not throw
}

void PostedWork::take() {
    std::lock_guard lock(mutex_);
    taken_.splice(taken_.end(), posted_);
}

bool PostedWork::is_empty() {
    std::lock_guard lock(mutex_);
    return posted_.empty() && taken_.empty();
}

void PostedWork::run() {
    core_.gil.ensure();
    take();
    while (!taken_.empty()) {
        Work work = std::move(taken_.front());  // its references go after it has run
        taken_.pop_front();
        run_one(std::move(work));
    }
}

void PostedWork::run_last() {
    for (int round = 0; round < kLastRounds && !is_empty() && !core_.is_forked; round++) run();
}

void PostedWork::run_functions() {
    for (;;) {
        take();
        auto next = std::find_if(taken_.begin(), taken_.end(), [](const Work &work) { return bool(work.function); });
        if (next == taken_.end()) return;
        Work work = std::move(*next);
        taken_.erase(next);
        run_one(std::move(work));
    }
}

// Throws nothing: uWebSockets, which calls run(), would lose the closures that it has not called yet.
void PostedWork::run_one(Work work) {
    try {
        work.function ? work.function(core_) : call(work);
    } catch (const std::exception &) {
        core_.failed(Origin::kPostedWork);
    }
}

// In the caller's Context, like asyncio's call_soon(); variables that the function sets are dropped with the work.
void PostedWork::call(Work &work) {
    core_.coroutines.leave_if_idle();
    ContextScope scope = core_.scope(work.context.slot());
    Ref result;
    if (scope) result = Ref::steal(guarded<PyObject_CallObject>(work.callable.get(), work.arguments.get()));
    if (!result) {
        core_.log_failure(Origin::kCallSoon);
    } else if (result.get() != Py_None && is_coroutine(result.get())) {
        run_coroutine(core_, nullptr, std::move(result), Origin::kCallSoon);
    }
}

int PostedWork::traverse(visitproc visit, void *arg) const {
    for (const std::list<Work> *list : {&posted_, &taken_}) {
        for (const Work &work : *list) {
            Py_VISIT(work.callable.get());
            Py_VISIT(work.arguments.get());
            Py_VISIT(work.context.get());
        }
    }
    return 0;
}

void PostedWork::clear() {
    std::list<Work> posted = std::exchange(posted_, {});
    std::list<Work> taken = std::exchange(taken_, {});
}

}  // namespace uwserve
