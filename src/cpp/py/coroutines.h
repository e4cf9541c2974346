// Coroutines that handlers return, driven on the event loop (asyncio, uvloop) whose thread runs the server.
//
// A coroutine is stepped at once, where its handler was called. Most end in that step, and none of them has cost a Task.
// Yet asyncio.current_task(), timeouts, cancellation and context variables must work in it, too: so a *spare* Task, made
// ahead and not yet run, is the current task meanwhile, and its context is entered. When the coroutine suspends, the
// spare becomes its Task: the coroutine that the Task was made with is a driver of ours, which from then on passes
// everything to the user's. When it ends, the spare serves the next one; unless something was left on it (a reference, a
// context variable, a cancellation), because then it is somebody's Task and ends as one.
//
// The loop gives a spare that nobody has needed its first step in its next turn. There it is parked: it waits for
// something that only its use wakes (_tasks.py), unknown to all_tasks(), and serves the turns to come; making a Task costs
// as much as twenty messages. Where an asyncio cannot hide a Task it ends in that step, and the next turn makes another:
// nothing of ours is seen pending in a foreign loop. The current task is entered at the first coroutine of a pump and left
// before anything else of the user's runs, and at the pump's end. Everything here needs the GIL and runs on the loop's
// thread.
#pragma once

#include <cstring>
#include <utility>

#include "at_exit.h"
#include "ref.h"
#include "running_handlers.h"

namespace uwserve {

class ServerCore;
struct ModuleState;
struct RequestObject;
struct WsObject;
struct Driver;

// What a Context holds its variables in: they are the same as long as this object is. NULL when it cannot be told.
PyObject *variables_of(PyObject *context);

// What of asyncio is called from here (_tasks.py), borrowed from the tuple that holds it.
struct LoopTools {
    PyObject *make_task, *park, *show, *hide, *current_task, *enter_task, *leave_task, *running_loop;
};

class Coroutines {
  public:
    explicit Coroutines(ServerCore &core) : core_(core) {}
    Coroutines(const Coroutines &) = delete;
    Coroutines &operator=(const Coroutines &) = delete;

    // From now on coroutines belong to `loop`. False with an exception set.
    bool set_loop(PyObject *loop, PyObject *tools);
    // The loop is not the server's any more. Tasks that are left end with it.
    void forget_loop();

    // Steps the coroutine; see run_coroutine().
    Ref run(WsObject *ws, Ref coroutine, const char *where);

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
    // Before anything of the user's that is not a coroutine's.
    void leave_if_idle() {
        if (entered_ && !busy_) [[unlikely]]
            leave();
    }
    void before_call(PyObject *handler) {
        if (entered_ && !busy_ && !makes_coroutine(handler)) leave();
    }

    // A coroutine takes its first step, further up the stack, or a Task for one is being seen to.
    bool is_busy() const { return busy_ || is_changing_; }
    // Tasks that the server's end waits for.
    bool has_tasks() const { return waits_ && tasks_ && PySet_GET_SIZE(tasks_.get()) > 0; }
    PyObject *tasks() const { return tasks_.get(); }  // NULL or a set, borrowed
    // Asks every task to end but the one that asks.
    void cancel_tasks();
    // Tasks that will not end, and those that may begin, are no longer waited for.
    void forget_tasks() { waits_ = false; }
    void task_ended(PyObject *task);
    // What the Task of the driver may wait for, a new reference: it is the spare, and not needed yet. NULL, and no
    // exception: it is somebody's, or cannot be hidden.
    PyObject *park(Driver *driver);
    // The state of the driver's Task has been changed, so it is somebody's.
    void touched(Driver *driver);

    int traverse(visitproc visit, void *arg);
    void clear();

  private:
    // A Task to be, and what it looked like before anybody used it.
    struct Spare {
        Ref task, driver, context, pristine;
        Ref outer;  // the task that was the current one before
        PyObject *variables = nullptr;  // of the pristine context
        Py_ssize_t references = 0, context_references = 0;
    };

    // While a Task is made, entered, parked or woken, which runs Python code: the garbage collector, or a signal's handler,
    // may close a socket in there. A coroutine that comes then begins in the loop's next turn.
    class Changing {
      public:
        explicit Changing(bool &flag) : flag_(flag), was_(std::exchange(flag, true)) {}
        ~Changing() { flag_ = was_; }

      private:
        bool &flag_;
        bool was_;
    };

    // The code of an `async def` has this flag (CO_COROUTINE).
    static constexpr int kCoroutineFunction = 0x80;
    static bool makes_coroutine(PyObject *handler) {
        if (PyMethod_Check(handler)) handler = PyMethod_GET_FUNCTION(handler);
        return PyFunction_Check(handler) &&
               (reinterpret_cast<PyCodeObject *>(PyFunction_GET_CODE(handler))->co_flags & kCoroutineFunction);
    }
    Ref stepped(WsObject *ws, Ref coroutine, PySendResult status, Ref out, const char *where);
    Ref suspended(WsObject *ws, Ref coroutine, Ref first, const char *where);
    Ref run_outside(WsObject *ws, Ref coroutine, const char *where);
    Ref start_later(WsObject *ws, Ref coroutine, const char *where);
    Ref make_task(PyObject *driver, Ref *context, Ref *pristine);
    bool keep(PyObject *task, Driver *driver, WsObject *ws, const char *where);
    bool find_loop();
    int is_running();
    bool make_spare();
    bool enter();
    void leave();
    void show(PyObject *how);
    void wake(const Spare &spare, PyObject *task);
    PyObject *variables() const;
    // Whether the coroutine has left something on its Task.
    [[gnu::always_inline]] bool was_touched() const {
        return Py_REFCNT(spare_.task.get()) != spare_.references ||
               Py_REFCNT(spare_.context.get()) != spare_.context_references || variables() != spare_.variables;
    }

    ServerCore &core_;
    Ref loop_, tools_object_, base_context_, tasks_;
    LoopTools tools_{};
    Spare spare_;
    size_t variables_at_ = 0;  // in a Context, in pointers; 0: not known
    bool entered_ = false;  // the spare is the current task
    bool busy_ = false;  // a coroutine is being stepped in it
    bool is_changing_ = false;
    bool pumping_ = false;
    bool has_begun_ = false;
    bool waits_ = true;
};

// Whether a handler's result is a coroutine: types.coroutine's generators and collections.abc.Coroutine count.
bool is_other_coroutine(PyObject *object);
inline bool is_coroutine(PyObject *object) { return PyCoro_CheckExact(object) || is_other_coroutine(object); }

// Runs the coroutine that a handler of `ws` (NULL: of a request) has returned. The result is its asyncio.Task when it has
// suspended; none when it has ended, and then an exception of its has been dealt with. `where` is a literal.
Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, const char *where);

// The exception that is set came out of a coroutine: to `error` or the log, and a failed open handler closes its socket.
void coroutine_failed(ServerCore &core, WsObject *ws, const char *where);

// A socket whose open handler fails is closed.
inline bool is_open_handler(const char *where) { return strcmp(where, "open") == 0; }

// What a Task is made with (coroutine_driver.cpp); a Python object of its own.
struct Driver {
    PyObject_HEAD ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    PyObject *coroutine;  // NULL: none has come yet, or it has ended
    PyObject *first;  // what it yielded before the Task's first step
    PyObject *parking;  // what the Task waits for as a spare
    PyObject *ws;
    PyObject *kept;  // the Task, when its state was changed while it was a spare
    PyObject *outcome;  // of a spare that ends as a Task: an exception when has_failed
    const char *where;
    RunningHandler running;  // counted from keep() until the Task has ended, or is freed
    bool has_failed;
    bool expired;  // the Task has taken its first step without a coroutine
};

Driver *new_driver(ServerCore &core);
inline Driver *as_driver(const Ref &object) { return reinterpret_cast<Driver *>(object.get()); }
bool add_driver_type(PyObject *module, ModuleState *state);

// A callable for a loop's add_reader(): pumps, and calls on_end(state) when the server is over (loop_reader.cpp).
PyObject *new_loop_reader(ServerCore &core, PyObject *on_end);
bool add_loop_reader_type(PyObject *module, ModuleState *state);

// --- the path of most coroutines, in line ---

// What its Context holds its variables in, which is another object after each change.
inline PyObject *Coroutines::variables() const {
    if (!variables_at_) [[unlikely]]
        return variables_of(spare_.context.get());
    return reinterpret_cast<PyObject *const *>(spare_.context.get())[variables_at_];
}

[[gnu::always_inline]] inline Ref Coroutines::run(WsObject *ws, Ref coroutine, const char *where) {
    if (!entered_ || is_busy() || as_driver(spare_.driver)->kept) [[unlikely]]
        return run_outside(ws, Ref::steal(coroutine.release()), where);
    busy_ = true;  // until nothing of this coroutine runs any more
    PyObject *out = nullptr;
    PySendResult status = guarded<PyIter_Send>(coroutine.get(), Py_None, &out);
    if (status == PYGEN_RETURN && out == Py_None) [[likely]] {
        Py_DECREF(out);
        out = nullptr;
        coroutine.reset();
        if (!was_touched()) [[likely]] {
            busy_ = false;
            return Ref();
        }
    }
    return stepped(ws, Ref::steal(coroutine.release()), status, Ref::steal(out), where);
}

}  // namespace uwserve
