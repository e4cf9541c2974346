#include "py/server/run.h"

#include <unistd.h>

#include "py/interpreter/objects.h"
#include "py/interpreter/threads.h"
#include "py/server/core.h"
#include "uws/loop/clock.h"

namespace uwserve {

namespace {

// A pump keeps the GIL, which the event loop has released while it waited. It is worth handing the GIL to other threads
// for a fan-out that sends at least this much in all.
constexpr size_t kFanOutBytes = 1u << 20;

// While iterations find more than one event, a pump goes on without asking the event loop, whose turns cost as much as
// three to ten messages; but not longer than this, because the event loop's tasks wait, and not when a coroutine has
// just become one of them.
constexpr int kBusyEvents = 2;
constexpr uint64_t kPumpNs = 1'000'000;

}  // namespace

// --- hooks ---

void Run::on_release() {
    core_.deferred_free->empty();
    if (rearm_signals_ && core_.gil.is_held_long()) [[unlikely]]
        rearm_signals();
    if (is_embedded_ && core_.instance->topics().queued_bytes() * core_.pending_websockets < kFanOutBytes) return;
    core_.gil.release();
}

// A handler may have run asyncio.run(), which resets signal handlers and the wake-up descriptor at its end. Then a
// signal would be lost, or end the process, so they are set again before the next wait, after turns that took long
// enough for that.
void Run::rearm_signals() {
    Ref hook = Ref::borrow(rearm_signals_.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (result) return;
    core_.instance->wake_up();
    end_with(take_exception());
}

// Python's own C-level signal handler has written to the descriptor; its Python-level handlers run here.
void Run::on_signal() {
    char bytes[64];
    while (read(signal_fd_, bytes, sizeof(bytes)) > 0) {
    }
    core_.gil.ensure();
    bool is_raised = PyErr_CheckSignals() != 0;
    core_.contexts.discard_changes();
    if (is_raised) end_with(take_exception());
}

// --- begin and end ---

bool Run::check_can_run(const char *call) {
    if (!core_.check_alive(call)) return false;
    if (core_.running()) {
        PyErr_Format(PyExc_RuntimeError, "the server is already running, on %s", describe_thread(thread()).c_str());
        return false;
    }
    const char *problem = nullptr;
    if (core_.finish.is_done()) {
        problem = "the server has ended";
    } else if (!core_.stop.has_started() && (!core_.instance || core_.instance->listeners().is_empty())) {
        problem = "the server is not bound";  // a server that stops has no listener, but connections to end
    } else if (core_.instance->is_in_callback()) {
        problem = "the server can't be run from its own callback, or while another thread is in one";
    }
    if (problem) PyErr_SetString(PyExc_RuntimeError, problem);
    return !problem;
}

void Run::end_with(Ref error) {
    is_ending_ = true;
    if (!error_) error_ = std::move(error);
    if (is_embedded_ && core_.instance) core_.instance->wake_up();  // the next pump raises it
}

// The run ends here, and the server where nothing is left of it. False: the error that ended the run is set.
bool Run::end() {
    thread_ = 0;
    core_.finish.after_scope();
    return raise_error();
}

bool Run::raise_error() {
    if (!error_) return true;
    Ref error = std::move(error_);
    raise_again(error.get());
    return false;
}

// A handler that forked returns into the loop once more: it finds no handlers and no descriptors, and ends.
void Run::forked() {
    is_ending_ = true;
    thread_ = kNoThread;
}

// --- on a thread ---

bool Run::run_to_end(int signal_fd, PyObject *rearm_signals) {
    if (core_.finish.is_done() && core_.stop.has_started() && !core_.is_forked) return true;  // stopped before it ran
    if (!check_can_run("Server.run")) return false;
    Ref keep = Ref::borrow(core_.self);
    Watch signals;
    signal_fd_ = signal_fd;
    if (signal_fd >= 0 && !signals.open<&Run::on_signal>(core_.instance->loop(), signal_fd, this)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return false;
    }
    if (!core_.contexts.set_base() || !core_.contexts.begin()) return false;
    rearm_signals_ = rearm_signals == Py_None ? Ref() : Ref::borrow(rearm_signals);
    thread_ = PyThread_get_thread_ident();
    is_ending_ = false;
    do {
        while (core_.instance->has_work() && !is_ending_) core_.instance->iterate(-1);
        core_.gil.ensure();
        if (!core_.is_forked && !is_ending_) core_.posted_work.run_last();
    } while (core_.instance->has_work() && !is_ending_ && !core_.is_forked);
    rearm_signals_ = Ref();
    core_.contexts.end();
    if (core_.is_forked) {  // a handler forked, and this is the child
        signals.abandon();
        PyErr_SetString(PyExc_RuntimeError, "the server belongs to the process that made it, and this is a fork of it");
        return false;
    }
    if (is_ending_) core_.posted_work.run();
    signals.close();  // before the instance goes
    return end();
}

// --- inside an event loop ---

bool Run::attach() {
    if (!check_can_run("Server.serve_forever") || !core_.contexts.set_base()) return false;
    thread_ = PyThread_get_thread_ident();
    is_embedded_ = true;
    is_ending_ = false;
    core_.instance->integrate();
    core_.instance->wake_up();  // for what has happened meanwhile
    return true;
}

// The child of a fork in a handler goes on in a copy of the event loop.
bool Run::leave_fork() {
    core_.gil.ensure();
    core_.coroutines.end_pump();
    return true;
}

bool Run::pump(Pumped *pumped) {
    *pumped = Pumped::kGoesOn;
    if (core_.is_forked || !is_embedded_ || !may_touch_instance() || core_.instance->is_in_callback()) return true;
    Ref keep = Ref::borrow(core_.self);
    if (!core_.contexts.begin()) return false;
    struct End {
        Contexts &contexts;
        ~End() { contexts.end(); }
    } end{core_.contexts};
    Coroutines &coroutines = core_.coroutines;
    coroutines.begin_pump();
    const uint64_t begun = monotonic_ns();
    do {
        core_.instance->iterate(0);
        if (core_.is_forked) return leave_fork();
    } while (core_.instance->last_events() >= kBusyEvents && core_.instance->has_work() && !is_ending_ &&
             !coroutines.has_begun() && monotonic_ns() - begun < kPumpNs);
    core_.gil.ensure();
    if (!core_.instance->has_work() && !is_ending_) core_.posted_work.run_last();
    if (core_.is_forked) return leave_fork();
    coroutines.end_pump();
    is_ending_ = false;
    if (!raise_error()) return false;
    if (!core_.instance->has_work()) {
        *pumped = !coroutines.has_tasks()  ? Pumped::kOver
                  : core_.stop.is_forced() ? Pumped::kWaitsForTasks
                                           : Pumped::kGoesOn;
    }
    return true;
}

bool Run::detach() {
    if (!is_embedded_ || core_.is_forked) return true;
    if (core_.instance && core_.instance->is_in_callback()) {
        PyErr_SetString(PyExc_RuntimeError, "the server can't be detached in its own callback");
        return false;
    }
    is_embedded_ = false;
    return end();
}

void Run::forget_event_loop() {
    is_embedded_ = false;
    thread_ = 0;
}

bool Run::ask_for_event_loop() {
    if (core_.finish.has_begun()) {
        PyErr_SetString(PyExc_RuntimeError, "the server has ended: it cannot run coroutines any more");
        return false;
    }
    if (!core_.on_event_loop_wanted) {
        PyErr_SetString(PyExc_RuntimeError, "this server cannot run coroutines");
        return false;
    }
    Ref hook = Ref::borrow(core_.on_event_loop_wanted.get());
    Ref result = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!result) return false;
    if (core_.running() && !is_embedded_) is_ending_ = true;
    return true;
}

}  // namespace uwserve
