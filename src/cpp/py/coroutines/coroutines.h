// Coroutines that handlers return, driven on the event loop (asyncio, uvloop) whose thread runs the server.
//
// A coroutine is stepped at once, inside the call of its handler. Most end in that step, and none of those costs a
// Task. Yet asyncio.current_task(), timeouts, cancellation and context variables must work in that step, too. So the
// coroutine borrows a *spare* Task, which was made ahead and has not run yet, and the Task's context is entered. When
// the coroutine suspends, the spare becomes its Task: the Task was made with a driver of ours, which then forwards
// everything to the user's coroutine.
//
// The rule of isolation: **each call of a handler has a Task of its own, as far as any code can see**. Libraries keep
// state by Task (attributes, weak references, names), so a Task that was seen in one call must never be the current one
// of another. A spare may serve the next coroutine only if no code has seen it. That is certain, because there is only
// one place in which to see it, and each lookup there is noticed: instead of loop -> Task, asyncio's dictionary of
// current tasks holds a *probe* of ours with the hash of the loop. Every lookup of the loop calls the probe's
// comparison (coroutines/probe.cpp), which puts the Task there; from then on the Task belongs to that call and ends with it.
// The same probe is among the weak references of all_tasks(), which calls it. Lookups from other threads, signal
// handlers and finalisers are noticed in the same way. After each step the Task and its Context are also checked for
// other traces (reference counts, context variables). The lists of the garbage collector (gc.get_objects()) do not
// contain the spare: traverse_spare() visits its referents instead.
//
// Where this is impossible (CPython 3.14 keeps the current task in its thread's state; Tasks of pure Python; a loop
// with a task factory, which then makes the Task; a connection with context variables of its own, interpreter/contexts.h), each
// call gets a fresh Task, which costs some 3 us.
//
// The loop gives an unused spare its first step in its next turn. There the spare is parked: it waits for an event that
// only its use triggers (_run/tasks.py), hidden from all_tasks(), and serves later turns; making a Task costs as much as
// twenty messages. The probe is installed at the first coroutine of a pump. It is removed before other user code runs,
// and at the end of the pump. Everything here needs the GIL and, except for lookups, runs on the loop's thread.
#pragma once

#include <utility>

#include "py/interpreter/at_exit.h"
#include "py/interpreter/ref.h"
#include "py/coroutines/running_handlers.h"

namespace uwserve {

class ServerCore;
struct ModuleState;
struct RequestObject;
struct WsObject;
struct Driver;

// The parts of asyncio that are used here (_run/tasks.py), borrowed from the tuple that holds them. The last two are None
// where lookups in them cannot be noticed, and then no Task serves twice.
struct LoopTools {
    PyObject *make_task, *hide, *reveal, *new_parking, *current_task, *enter_task, *leave_task, *running_loop,
        *current_tasks, *all_tasks;
};

class Coroutines {
  public:
    explicit Coroutines(ServerCore &core) : core_(core) {}
    ~Coroutines();
    Coroutines(const Coroutines &) = delete;
    Coroutines &operator=(const Coroutines &) = delete;

    // From now on coroutines belong to `loop`. False with an exception set.
    bool set_loop(PyObject *loop, PyObject *tools);
    // The server no longer uses the loop. Tasks that are left end with the loop.
    void forget_loop();

    // Steps the coroutine; see run_coroutine(). It begins with a copy of the variables in `context`, NULL: the base's.
    Ref run(WsObject *ws, Ref coroutine, Origin origin, PyObject *context);

    // Around the iterations of the loop: coroutines that start in one share an entered task.
    void begin_pump() {
        pumping_ = true;
        has_begun_ = false;
    }
    void end_pump() {
        pumping_ = false;
        leave_if_idle();
    }
    // A Task has begun in this pump, or a future was resolved: the event loop has something to do.
    bool has_begun() const { return has_begun_; }
    void needs_turn() { has_begun_ = true; }
    // Called before user code runs that is not a coroutine's.
    void leave_if_idle() {
        if (entered_ && !busy_) [[unlikely]]
            leave();
    }
    void before_call(PyObject *handler) {
        if (entered_ && !busy_ && !makes_coroutine(handler)) leave();
    }
    // A coroutine takes its first step, further up the stack.
    bool is_stepping() const { return busy_; }

    // A coroutine takes its first step, further up the stack, or a Task for one is being prepared.
    bool is_busy() const { return busy_ || is_changing_; }
    // Tasks that the server's end waits for.
    bool has_tasks() const { return waits_ && tasks_ && PySet_GET_SIZE(tasks_.get()) > 0; }
    PyObject *tasks() const { return tasks_.get(); }  // NULL or a set, borrowed
    // Cancels every task except the current one.
    void cancel_tasks();
    // The server no longer waits for Tasks that do not end, nor for later ones.
    void forget_tasks() { waits_ = false; }
    void task_ended(PyObject *task);
    // The awaitable for the driver's Task while it is an unused spare, a new reference. NULL without an exception: the
    // Task is in use, or cannot be hidden.
    PyObject *park(Driver *driver);
    // Called on a lookup of the loop's current task, or of all tasks: the spare is visible from here on. On any thread.
    // False with an exception set.
    bool look();
    PyObject *loop() const { return loop_.get(); }
    // The spare that a coroutine may use at this moment, borrowed; NULL when it was seen, or there is none.
    PyObject *unseen() const { return entered_ && is_probed_ ? spare_.task.get() : nullptr; }
    // The same, seen or not, while all_tasks() does not have it.
    PyObject *unlisted() const { return entered_ && spare_.is_hidden ? spare_.task.get() : nullptr; }

    int traverse(visitproc visit, void *arg);
    void clear();

  private:
    // A spare Task, and its state before any use.
    struct Spare {
        Ref task, driver, context, pristine;
        Ref outer;  // the task that was the current one before
        PyObject *variables = nullptr;  // of the pristine context
        Py_ssize_t references = 0, context_references = 0;  // while it is entered
        bool is_hidden = false;  // from all_tasks()
    };

    // While a Task is made, entered, parked or woken, which runs Python code: the garbage collector, or a signal's
    // handler, may close a socket in there. A coroutine that comes then begins in the loop's next turn.
    class Changing {
      public:
        explicit Changing(bool &flag) : flag_(flag), was_(std::exchange(flag, true)) {}
        ~Changing() { flag_ = was_; }

      private:
        bool &flag_;
        bool was_;
    };

    // A coroutine that gets a spare of its own, while the one before is set aside.
    class Apart {
      public:
        Apart(Coroutines &coroutines, bool was_entered, bool was_busy)
            : coroutines_(coroutines),
              outer_(std::exchange(coroutines.spare_, Spare())),
              was_entered_(was_entered),
              was_busy_(was_busy) {
            coroutines.entered_ = coroutines.busy_ = false;
        }
        ~Apart() {
            if (coroutines_.entered_) coroutines_.leave();
            Spare own = std::exchange(coroutines_.spare_, std::move(outer_));
            coroutines_.wake(own);
            coroutines_.entered_ = was_entered_;
            coroutines_.busy_ = was_busy_;
        }
        Apart(const Apart &) = delete;
        Apart &operator=(const Apart &) = delete;

      private:
        Coroutines &coroutines_;
        Spare outer_;
        bool was_entered_, was_busy_;
    };

    // After a step, however it ends.
    struct NotBusy {
        bool &busy;
        ~NotBusy() { busy = false; }
    };

    // The code of an `async def` has this flag (CO_COROUTINE).
    static constexpr int kCoroutineFunction = 0x80;
    static bool makes_coroutine(PyObject *handler) {
        if (PyMethod_Check(handler)) handler = PyMethod_GET_FUNCTION(handler);
        return PyFunction_Check(handler) &&
               (reinterpret_cast<PyCodeObject *>(PyFunction_GET_CODE(handler))->co_flags & kCoroutineFunction);
    }
    Ref step(WsObject *ws, Ref coroutine, Origin origin);
    Ref stepped(WsObject *ws, Ref coroutine, PySendResult status, Ref out, Origin origin);
    Ref suspended(WsObject *ws, Ref coroutine, Ref first, Origin origin);
    Ref run_outside(WsObject *ws, Ref coroutine, Origin origin, PyObject *context);
    Ref start_later(WsObject *ws, Ref coroutine, Origin origin, PyObject *base);
    Ref make_task(Driver *driver, PyObject *base, Ref *context, Ref *pristine);
    bool keep(const Ref &task, PyObject *context, Driver *driver, WsObject *ws, Origin origin);
    bool find_loop();
    int is_running();
    bool has_task_factory();
    bool make_spare(PyObject *base, bool is_hidden);
    bool enter(PyObject *context);
    bool enter_probe();
    void leave();
    void reveal(Spare &spare);
    void wake(const Spare &spare);
    void drop_probe();
    int traverse_spare(visitproc visit, void *arg);
    PyObject *variables() const;
    // Whether it was seen, or the coroutine has left something on it.
    bool was_touched() const;

    ServerCore &core_;
    Ref loop_, tools_object_, tasks_;
    LoopTools tools_{};
    Ref probe_;  // of this loop; none where no Task serves twice
    Spare spare_;
    bool entered_ = false;  // the spare is the current task
    bool is_probed_ = false;  // and asyncio has the probe in its place
    bool busy_ = false;  // a coroutine is being stepped in it
    bool is_changing_ = false;
    bool pumping_ = false;
    bool has_begun_ = false;
    bool waits_ = true;
};

// Whether a handler's result is a coroutine: types.coroutine's generators and collections.abc.Coroutine count.
bool is_other_coroutine(PyObject *object);
inline bool is_coroutine(PyObject *object) { return PyCoro_CheckExact(object) || is_other_coroutine(object); }

// Runs the coroutine that a handler of `ws` (NULL: of a request) has returned. The result is its asyncio.Task when it
// has suspended; none when it has ended, and then an exception of its has been dealt with.
Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin);

// Passes the current exception of a coroutine to `error` or the log; a failed open handler closes its socket.
void coroutine_failed(ServerCore &core, WsObject *ws, Origin origin);

// What a Task is made with (coroutines/driver.cpp); a Python object of its own.
struct Driver {
    PyObject_HEAD ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    PyObject *coroutine;  // NULL: none has come yet, or it has ended
    PyObject *first;  // what it yielded before the Task's first step
    PyObject *parking;  // what the Task waits for as a spare
    PyObject *ws;
    PyObject *request;  // whose coroutine it is
    PyObject *kept;  // the Task, when it was seen while it was a spare
    PyObject *outcome;  // of a spare that ends as a Task: an exception when has_failed
    Origin origin;  // of the coroutine
    RunningHandler running;  // counted from keep() until the Task has ended, or is freed
    bool is_started;  // a coroutine has suspended, and the Task goes on with it
    bool has_failed;
    bool expired;  // the Task has taken its first step without a coroutine
    bool is_new;  // the Task is being made, by a factory that may step it
};

Driver *new_driver(ServerCore &core);
inline Driver *as_driver(const Ref &object) { return reinterpret_cast<Driver *>(object.get()); }
bool add_driver_type(PyObject *module, ModuleState *state);

// A key in the place of a loop in asyncio's dictionary of current tasks (coroutines/probe.cpp).
PyObject *new_probe(ServerCore &core, PyObject *loop);
void retire_probe(PyObject *probe);
bool add_probe_type(PyObject *module, ModuleState *state);

}  // namespace uwserve
