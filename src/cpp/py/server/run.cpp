// Who turns the loop: a thread of its own making (run), or an event loop of Python's whose reader calls pump(). And the
// end, which both come to.
#include <unistd.h>

#include <cerrno>

#include "py/server/core.h"
#include "py/interpreter/threads.h"

namespace uwserve {

namespace {

// A pump keeps the GIL, which the event loop has released while it waited. A fan-out that sends at least this much in
// all is worth handing it to other threads.
constexpr size_t kFanOutBytes = 1u << 20;

// While iterations find more than one event, a pump goes on without asking the event loop, whose turns cost as much as
// three to ten messages; but not longer than this, as its tasks wait, and not when a coroutine has just become one.
constexpr int kBusyEvents = 2;
constexpr uint64_t kPumpNs = 1'000'000;

// Functions that post functions: so many rounds of them still run when nothing else is left of a server.
constexpr int kLastRounds = 100;

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
    us_wakeup_loop(instance->loop());
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
    if (finished || (listeners.empty() && !stopping)) {
        PyErr_SetString(PyExc_RuntimeError, finished ? "the server has ended" : "the server is not bound");
        return false;
    }
    if (instance->loop()->depth > 0) {
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
    if (finished && stopping && !is_forked) return true;  // stopped before it ran: nothing is left to do
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
    us_loop_t *loop = instance->loop();
    do {
        while (loop->num_polls > 0 && !break_) us_loop_iterate(loop, -1);
        gil.ensure();
        if (!is_forked && !break_) run_last_posted();
    } while (loop->num_polls > 0 && !break_ && !is_forked);
    rearm_signals_ = Ref();
    contexts.end();
    if (is_forked) {  // a handler forked, and this is the child
        PyErr_SetString(PyExc_RuntimeError, "the server belongs to the process that made it, and this is a fork of it");
        return false;
    }
    if (break_) run_posted();
    if (watch) us_unwatch(watch);
    loop_thread = 0;
    end_entry();
    return raise_run_error();
}

// --- inside an event loop ---

bool ServerCore::attach_loop() {
    if (!check_can_run("Server.serve_forever") || !contexts.set_base()) return false;
    loop_thread = PyThread_get_thread_ident();
    embedded_ = true;
    break_ = false;
    us_loop_integrate(instance->loop());
    us_wakeup_loop(instance->loop());  // what happened meanwhile is looked at
    return true;
}

int ServerCore::descriptor() const { return instance ? us_loop_fd(instance->loop()) : -1; }

// The child of a fork in a handler goes on in a copy of the event loop.
bool ServerCore::leave_fork() {
    gil.ensure();
    coroutines.end_pump();
    return true;
}

bool ServerCore::pump(Pumped *pumped) {
    *pumped = Pumped::kGoesOn;
    if (is_forked || !embedded_ || !on_loop_thread() || instance->loop()->depth > 0) return true;
    Ref keep = Ref::borrow(self);
    us_loop_t *loop = instance->loop();
    if (!contexts.begin()) return false;
    struct End {
        Contexts &contexts;
        ~End() { contexts.end(); }
    } end{contexts};
    coroutines.begin_pump();
    uint64_t begun = us_monotonic_ns();
    do {
        us_loop_iterate(loop, 0);
        if (is_forked) return leave_fork();
    } while (us_loop_last_events(loop) >= kBusyEvents && loop->num_polls > 0 && !break_ && !coroutines.has_begun() &&
             us_monotonic_ns() - begun < kPumpNs);
    gil.ensure();
    if (loop->num_polls == 0 && !break_) run_last_posted();
    if (is_forked) return leave_fork();
    coroutines.end_pump();
    break_ = false;
    if (!raise_run_error()) return false;
    if (loop->num_polls == 0) {
        *pumped = !coroutines.has_tasks() ? Pumped::kOver : forced ? Pumped::kWaitsForTasks : Pumped::kGoesOn;
    }
    return true;
}

bool ServerCore::detach_loop() {
    if (!embedded_ || is_forked) return true;
    if (instance && instance->loop()->depth > 0) {
        PyErr_SetString(PyExc_RuntimeError, "the server can't be detached in its own callback");
        return false;
    }
    embedded_ = false;
    loop_thread = 0;
    end_entry();
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

// Before it is decided that nothing is left to do: a function, or a coroutine that it starts, may have something.
void ServerCore::run_last_posted() {
    for (int round = 0; round < kLastRounds && has_posted() && !is_forked; round++) run_posted();
}

void ServerCore::task_ended() {
    if (!instance || !stopping || is_forked) return;
    if (running()) {
        us_wakeup_loop(instance->loop());
    } else {
        finish_if_idle();
    }
}

// Of the outermost one, and of a run: no thread runs the loop (any more), so there is no turn to wait for.
void ServerCore::end_entry() try {
    if (us_loop_t *loop = instance ? instance->loop() : nullptr; loop && loop->depth == 0) {
        us_loop_enter(loop);
        us_loop_leave(loop);  // what an DispatchScope has left to the next turn
    }
    if (farewell_ || !untold_.empty() || (forced && !unfinished.empty())) run_due();
    finish_if_idle();
} catch (const std::exception &) {
    failed(Origin::kStop);
}

void ServerCore::finish_if_idle() {
    if (instance && instance->loop()->depth == 0 && instance->loop()->num_polls == 0 && !coroutines.has_tasks())
        finish();
}

// The last connection is gone: the instance goes, the Python side is told. With the GIL, no thread running the loop.
void ServerCore::finish() {
    if (finished || finishing_) return;
    finishing_ = true;
    SavedError error;
    run_posted();
    limits.refusals.detach();  // with the last report
    finished = true;
    listeners.clear();
    stop_timer_ = nullptr;  // goes with its loop
    running_handlers.clear();
    instance.reset();
    if (!on_stopped) return;
    Ref hook = Ref::borrow(on_stopped.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!result) log_failure(Origin::kStop);
}

}  // namespace uwserve
