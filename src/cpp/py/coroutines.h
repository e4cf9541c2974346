// Coroutines that handlers return, driven on the event loop (asyncio, uvloop) whose thread runs the server.
//
// A coroutine is stepped at once, where its handler was called. Most end in that step, and none of them has cost a Task.
// Yet asyncio.current_task(), timeouts, cancellation and context variables must work in it, too: so a *spare* Task, made
// ahead and not yet run, is the current task meanwhile, and its context is entered. When the coroutine suspends, the
// spare becomes its Task: the coroutine that the Task was made with is a driver of ours, which from then on passes
// everything to the user's. When it ends, the spare serves the next one; unless something was left on it (a reference, a
// context variable, a cancellation), because then it is somebody's Task and ends as one.
//
// The loop gives a spare that nobody needed its first step in its next turn, and there it ends: nothing of ours stays
// pending in a foreign loop. The current task is entered at the first coroutine of a pump and left before anything else
// of the user's runs, and at the pump's end. Everything here needs the GIL and runs on the loop's thread.
#pragma once

#include <cstring>

#include "ref.h"

namespace uwserve {

class ServerCore;
struct ModuleState;
struct RequestObject;
struct WsObject;
struct Driver;

// What of asyncio is called from here (_tasks.py), borrowed from the tuple that holds it.
struct LoopTools {
    PyObject *make_task, *current_task, *enter_task, *leave_task, *running_loop;
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
    void begin_pump() { pumping_ = true; }
    void end_pump() {
        pumping_ = false;
        leave_if_idle();
    }
    // Before anything of the user's that is not a coroutine's.
    void leave_if_idle() {
        if (entered_ && !busy_) [[unlikely]]
            leave();
    }
    void before_call(PyObject *handler) {
        if (entered_ && !busy_ && !makes_coroutine(handler)) leave();
    }

    // A coroutine takes its first step, further up the stack.
    bool is_busy() const { return busy_; }
    // Tasks that the server's end waits for.
    bool has_tasks() const { return waits_ && tasks_ && PySet_GET_SIZE(tasks_.get()) > 0; }
    PyObject *tasks() const { return tasks_.get(); }  // NULL or a set, borrowed
    // Asks every task to end but the one that asks.
    void cancel_tasks();
    // Tasks that will not end, and those that may begin, are no longer waited for.
    void forget_tasks() { waits_ = false; }
    void task_ended(PyObject *task);

    int traverse(visitproc visit, void *arg);
    void clear();

  private:
    // A Task to be, and what it looked like before anybody used it.
    struct Spare {
        Ref task, driver, context, pristine;
        Ref outer;  // the task that was the current one before
        PyObject *variables = nullptr;  // of the pristine context
        Py_ssize_t references = 0;
    };

    static bool makes_coroutine(PyObject *handler);
    Ref step(WsObject *ws, Ref coroutine, const char *where);
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
    bool was_touched() const;

    ServerCore &core_;
    Ref loop_, tools_object_, base_context_, tasks_;
    LoopTools tools_{};
    Spare spare_;
    bool entered_ = false;  // the spare is the current task
    bool busy_ = false;  // a coroutine is being stepped in it
    bool pumping_ = false;
    bool waits_ = true;
};

// Whether a handler's result is a coroutine: types.coroutine's generators and collections.abc.Coroutine count.
bool is_coroutine(PyObject *object);

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
    PyObject *ws;
    PyObject *kept;  // the Task, when its state was changed while it was a spare
    PyObject *outcome;  // of a spare that ends as a Task: an exception when has_failed
    const char *where;
    bool has_failed;
    bool expired;  // the Task has taken its first step without a coroutine
};

Driver *new_driver(ServerCore &core);
inline Driver *as_driver(const Ref &object) { return reinterpret_cast<Driver *>(object.get()); }
bool add_driver_type(PyObject *module, ModuleState *state);

}  // namespace uwserve
