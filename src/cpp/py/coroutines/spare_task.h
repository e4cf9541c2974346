// The spare Task: made ahead, not run yet, and borrowed by each coroutine for its first step (coroutines/first_step.h).
// It is the current task in that step, and its Context is entered. It becomes the coroutine's Task if the coroutine
// suspends; most coroutines don't, and cost no Task.
//
// The rule of isolation: **each call of a handler has a Task of its own, as far as any code can see**. Libraries keep
// state by Task (attributes, weak references, names), so a Task that was seen in one call must never be the current one
// of another. A spare may serve the next coroutine only if no code has seen it. That is certain, because there is only
// one place in which to see it, and each lookup there is noticed: instead of loop -> Task, asyncio's dictionary of
// current tasks holds a *probe* (coroutines/probe.h) with the hash of the loop. Every lookup of the loop calls the
// probe's comparison, which puts the Task there; from then on the Task belongs to that call and ends with it. The same
// probe is among the weak references of all_tasks(), which calls it. Lookups from other threads, signal handlers and
// finalisers are noticed in the same way. After each step the Task and its Context are also checked for other traces
// (reference counts, context variables). The lists of the garbage collector (gc.get_objects()) do not contain the
// spare: traverse() visits its referents instead.
//
// Where this is impossible (CPython 3.14 keeps the current task in its thread's state; Tasks of pure Python; a loop
// with a task factory, which then makes the Task; a connection with context variables of its own,
// interpreter/contexts.h), each call gets a fresh Task, which costs some 3 us.
//
// The loop gives an unused spare its first step in its next turn. The spare then waits for a future that only its use
// resolves (`Parking` in _run/tasks.py), hidden from all_tasks(), and serves later turns; making a Task costs as much
// as twenty messages. The probe is installed at the first coroutine of a pump. It is removed before other user code
// runs, and at the end of the pump. Everything here needs the GIL and, except for lookups, runs on the loop's thread.
#pragma once

#include <utility>

#include "py/coroutines/driver.h"
#include "py/interpreter/contexts.h"

namespace uwserve {

class ServerCore;

// The parts of asyncio that are used here (_run/tasks.py), borrowed from the tuple that holds them. The last two are
// None where lookups in them cannot be noticed, and then no Task serves twice.
struct LoopTools {
    PyObject *make_task, *hide, *reveal, *new_idle_future, *current_task, *enter_task, *leave_task, *running_loop,
        *current_tasks, *all_tasks;
};

class SpareTask {
  public:
    // A Task with its driver and Context, and their state before any use.
    struct Parts {
        Ref task, driver, context, pristine;
        Ref outer;  // the task that was the current one before
        PyObject *variables = nullptr;  // of the pristine context
        Py_ssize_t references = 0, context_references = 0;  // while it is entered
        bool is_hidden = false;  // from all_tasks()
    };

    SpareTask(ServerCore &core, Contexts &contexts) : core_(core), contexts_(contexts) {}
    ~SpareTask() { drop_probe(); }

    // From now on spares are Tasks of `loop`. False with an exception set.
    bool set_loop(PyObject *loop, PyObject *tools);
    void forget_loop();
    PyObject *loop() const { return loop_.get(); }
    const LoopTools &tools() const { return tools_; }

    // --- around a coroutine's first step ---
    // Makes the spare the current task. False with an exception set. `context`: NULL for the base's, else a Task is
    // made for it that serves once.
    bool enter(PyObject *context);
    void leave();
    // Called before user code runs that is not a coroutine's.
    void leave_if_idle() {
        if (is_entered_ && !is_stepping_) [[unlikely]]
            leave();
    }
    bool is_entered() const { return is_entered_; }
    bool has_outer_task() const { return static_cast<bool>(parts_.outer); }
    // Whether it is entered, and the next coroutine may be stepped in it as it is.
    bool is_ready() const { return is_entered_ && !is_busy() && !as_driver(parts_.driver)->seen_task; }
    void begin_step() { is_stepping_ = true; }
    void end_step() { is_stepping_ = false; }
    // A coroutine takes its first step, further up the stack.
    bool is_stepping() const { return is_stepping_; }
    // A Task is being made, entered, left or woken: a coroutine that comes then begins in the loop's next turn.
    bool is_preparing() const { return is_preparing_; }
    bool is_busy() const { return is_stepping_ || is_preparing_; }
    // Whether it was seen, or the coroutine has left something on it.
    [[gnu::always_inline]] bool has_traces() const {
        return as_driver(parts_.driver)->seen_task || Py_REFCNT(parts_.task.get()) != parts_.references ||
               Py_REFCNT(parts_.context.get()) != parts_.context_references || variables() != parts_.variables;
    }
    // Ends the step: the Task is left to its coroutine, which has suspended, or (none) ends with its driver's outcome.
    Parts give_away(Ref coroutine, Ref first_yield);
    // The same for a coroutine that has ended, with an exception if `has_failed`: its Task ends likewise.
    void end_with(Ref outcome, bool has_failed);

    // A Task in a Context of its own, which is a copy of `base`.
    Ref make_task(Driver *driver, PyObject *base, Ref *context, Ref *pristine);
    // all_tasks() lists the Task from now on, as it belongs to a call.
    void reveal() { reveal(parts_); }

    // The awaitable for the driver's Task while it is an unused spare, a new reference. NULL without an exception: the
    // Task is in use, or cannot be hidden.
    PyObject *idle_future_of(Driver *driver);

    // --- lookups, on any thread ---
    // The loop's current task, or all tasks, were looked up: the spare is visible from here on. False with an exception
    // set.
    bool mark_seen();
    // The spare that a coroutine may use at this moment, borrowed; NULL when it was seen, or there is none.
    PyObject *unseen_task() const { return is_entered_ && is_probed_ ? parts_.task.get() : nullptr; }
    // The same, seen or not, while all_tasks() does not have it.
    PyObject *unlisted_task() const { return is_entered_ && parts_.is_hidden ? parts_.task.get() : nullptr; }

    int traverse(visitproc visit, void *arg);
    void clear_idle_future();

    // A coroutine gets a spare of its own, while the one before is set aside.
    class Aside {
      public:
        Aside(SpareTask &spare, bool was_entered, bool was_stepping)
            : spare_(spare),
              parts_(std::exchange(spare.parts_, Parts())),
              was_entered_(was_entered),
              was_stepping_(was_stepping) {
            spare.is_entered_ = spare.is_stepping_ = false;
        }
        ~Aside() {
            if (spare_.is_entered_) spare_.leave();
            Parts own = std::exchange(spare_.parts_, std::move(parts_));
            spare_.wake(own);
            spare_.is_entered_ = was_entered_;
            spare_.is_stepping_ = was_stepping_;
        }

      private:
        SpareTask &spare_;
        Parts parts_;
        bool was_entered_, was_stepping_;
    };

  private:
    // While a Task is made, entered, left or woken, which runs Python code: the garbage collector, or a signal's
    // handler, may close a socket in there.
    class Preparing {
      public:
        explicit Preparing(bool &flag) : flag_(flag), was_(std::exchange(flag, true)) {}
        ~Preparing() { flag_ = was_; }

      private:
        bool &flag_;
        bool was_;
    };

    bool has_task_factory();
    bool make(PyObject *base, bool is_hidden);
    bool enter_probe();
    void reveal(Parts &parts);
    void wake(const Parts &parts);
    void drop_probe();
    // The map of its Context's variables, which is another object after each change.
    PyObject *variables() const { return contexts_.variables(parts_.context.get()); }

    ServerCore &core_;
    Contexts &contexts_;
    Ref loop_, tools_object_;
    LoopTools tools_{};
    Ref probe_;  // of this loop; none where no Task serves twice
    Parts parts_;
    bool is_entered_ = false;  // the spare is the current task
    bool is_probed_ = false;  // and asyncio has the probe in its place
    bool is_stepping_ = false;  // a coroutine is being stepped in it
    bool is_preparing_ = false;
};

}  // namespace uwserve
