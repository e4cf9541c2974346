// Running a server: in run(), or inside an event loop of Python's whose reader calls pump(). And the end of both.
#include <unistd.h>

#include <cerrno>

#include "py/server/core.h"
#include "py/interpreter/threads.h"
#include "usockets/loop/watch.h"

namespace uwserve {

namespace {

// A pump keeps the GIL, which the event loop has released while it waited. A fan-out that sends at least this much in
// all is worth handing it to other threads.
constexpr size_t kFanOutBytes = 1u << 20;

// While iterations find more than one event, a pump goes on without asking the event loop, whose turns cost as much as
// three to ten messages; but not longer than this, as its tasks wait, and not when a coroutine has just become one.
constexpr int kBusyEvents = 2;
constexpr uint64_t kPumpNs = 1'000'000;

}  // namespace

void ServerCore::on_release(void *self) {
    auto *core = static_cast<ServerCore *>(self);
    core->deferred_free->empty();
    if (core->rearm_signals_ && core->gil.is_held_long()) [[unlikely]]
        core->rearm_signals();
    if (core->embedded_ && core->instance->topics().queued_bytes() * core->pending_websockets < kFanOutBytes) return;
    core->gil.release();
}

// A handler may have run asyncio.run(), which takes signal handlers and the wake-up descriptor away at its end. A signal
// would be lost, or end the process: they are put back before the next wait. Asked after turns that took as long as that.
void ServerCore::rearm_signals() {
    Ref hook = Ref::borrow(rearm_signals_.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (result) return;
    break_ = true;
    instance->wake_up();
    if (!run_error_) run_error_ = take_exception();
}

// Python's own C-level signal handler has written to the descriptor; here its Python-level handlers run.
void ServerCore::on_signal(void *self) {
    auto *core = static_cast<ServerCore *>(self);
    char bytes[64];
    while (read(core->signal_fd_, bytes, sizeof(bytes)) > 0) {
    }
    core->gil.ensure();
    bool is_raised = PyErr_CheckSignals() != 0;
    core->contexts.discard_changes();
    if (!is_raised) return;
    core->break_ = true;
    if (!core->run_error_) core->run_error_ = take_exception();
}

// False with an exception set.
bool ServerCore::check_can_run(const char *call) {
    if (!check_alive(call)) return false;
    if (running()) {
        PyErr_Format(PyExc_RuntimeError, "the server is already running, on %s",
                     describe_thread(loop_thread.load()).c_str());
        return false;
    }
    // One that stops has no listener any more, and connections to end.
    if (finished || (listeners.empty() && !stop.has_started())) {
        PyErr_SetString(PyExc_RuntimeError, finished ? "the server has ended" : "the server is not bound");
        return false;
    }
    if (instance->is_in_callback()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the server can't be run from its own callback, or while another thread is in one");
        return false;
    }
    return true;
}

// The exception that ended an iteration, if any: false, and it is set.
bool ServerCore::raise_run_error() {
    if (!run_error_) return true;
    Ref error = std::move(run_error_);
    PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.get())), error.get());
    return false;
}

bool ServerCore::run(int signal_fd, PyObject *rearm_signals) {
    if (finished && stop.has_started() && !is_forked) return true;  // stopped before it ran: nothing is left to do
    if (!check_can_run("Server.run")) return false;
    Ref keep = Ref::borrow(self);
    us_watch_t *watch = nullptr;
    signal_fd_ = signal_fd;
    if (signal_fd >= 0 && !(watch = us_watch(instance->loop(), signal_fd, on_signal, this))) {
        PyErr_SetFromErrno(PyExc_OSError);
        return false;
    }
    rearm_signals_ = rearm_signals == Py_None ? Ref() : Ref::borrow(rearm_signals);
    if (!contexts.set_base() || !contexts.begin()) {
        if (watch) us_unwatch(watch);
        rearm_signals_ = Ref();
        return false;
    }
    loop_thread = PyThread_get_thread_ident();
    break_ = false;
    do {
        while (instance->has_work() && !break_) instance->iterate(-1);
        gil.ensure();
        if (!is_forked && !break_) posted_work.run_last();
    } while (instance->has_work() && !break_ && !is_forked);
    rearm_signals_ = Ref();
    contexts.end();
    if (is_forked) {  // a handler forked, and this is the child
        PyErr_SetString(PyExc_RuntimeError, "the server belongs to the process that made it, and this is a fork of it");
        return false;
    }
    if (break_) posted_work.run();
    if (watch) us_unwatch(watch);
    loop_thread = 0;
    end_scope();
    return raise_run_error();
}

// --- inside an event loop ---

bool ServerCore::attach_loop() {
    if (!check_can_run("Server.serve_forever") || !contexts.set_base()) return false;
    loop_thread = PyThread_get_thread_ident();
    embedded_ = true;
    break_ = false;
    instance->integrate();
    instance->wake_up();  // for what happened meanwhile
    return true;
}

int ServerCore::descriptor() const { return instance ? instance->descriptor() : -1; }

// The child of a fork in a handler goes on in a copy of the event loop.
bool ServerCore::leave_fork() {
    gil.ensure();
    coroutines.end_pump();
    return true;
}

bool ServerCore::pump(Pumped *pumped) {
    *pumped = Pumped::kGoesOn;
    if (is_forked || !embedded_ || !on_loop_thread() || instance->is_in_callback()) return true;
    Ref keep = Ref::borrow(self);
    if (!contexts.begin()) return false;
    struct End {
        Contexts &contexts;
        ~End() { contexts.end(); }
    } end{contexts};
    coroutines.begin_pump();
    uint64_t begun = us_monotonic_ns();
    do {
        instance->iterate(0);
        if (is_forked) return leave_fork();
    } while (instance->last_events() >= kBusyEvents && instance->has_work() && !break_ && !coroutines.has_begun() &&
             us_monotonic_ns() - begun < kPumpNs);
    gil.ensure();
    if (!instance->has_work() && !break_) posted_work.run_last();
    if (is_forked) return leave_fork();
    coroutines.end_pump();
    break_ = false;
    if (!raise_run_error()) return false;
    if (!instance->has_work()) {
        *pumped = !coroutines.has_tasks() ? Pumped::kOver : stop.is_forced() ? Pumped::kWaitsForTasks : Pumped::kGoesOn;
    }
    return true;
}

bool ServerCore::detach_loop() {
    if (!embedded_ || is_forked) return true;
    if (instance && instance->is_in_callback()) {
        PyErr_SetString(PyExc_RuntimeError, "the server can't be detached in its own callback");
        return false;
    }
    embedded_ = false;
    loop_thread = 0;
    end_scope();
    return raise_run_error();
}

// A coroutine has come and there is no event loop that could run it: the facade makes one, and the run goes on in that.
bool ServerCore::ask_for_event_loop() {
    if (finishing_) {
        PyErr_SetString(PyExc_RuntimeError, "the server has ended: it cannot run coroutines any more");
        return false;
    }
    if (!on_event_loop_wanted) {
        PyErr_SetString(PyExc_RuntimeError, "this server cannot run coroutines");
        return false;
    }
    Ref hook = Ref::borrow(on_event_loop_wanted.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!result) return false;
    if (running() && !embedded_) break_ = true;
    return true;
}

// --- the end ---

void ServerCore::task_ended() {
    if (!instance || !stop.has_started() || is_forked) return;
    if (running()) {
        instance->wake_up();
    } else {
        finish_if_idle();
    }
}

// Of the outermost one, and of a run: no thread runs the loop (any more), so there is no turn to wait for.
void ServerCore::end_scope() try {
    if (instance && !instance->is_in_callback())
        instance->run_deferred();  // what a DispatchScope has left to the next turn
    if (stop.is_due() || (stop.is_forced() && !unfinished.empty())) stop.run_due();
    finish_if_idle();
} catch (const std::exception &) {
    failed(Origin::kStop);
}

void ServerCore::finish_if_idle() {
    if (instance && !instance->is_in_callback() && !instance->has_work() && !coroutines.has_tasks()) finish();
}

// The last connection is gone: the instance goes, and the on_stopped hook is called. With the GIL, no thread running the loop.
void ServerCore::finish() {
    if (finished || finishing_) return;
    finishing_ = true;
    SavedError error;
    posted_work.run();
    limits.refusals.detach();  // with the last report
    finished = true;
    listeners.clear();
    stop.forget_timer();
    running_handlers.clear();
    instance.reset();
    if (!on_stopped) return;
    Ref hook = Ref::borrow(on_stopped.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!result) log_failure(Origin::kStop);
}

}  // namespace uwserve
