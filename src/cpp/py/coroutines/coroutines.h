// Coroutines that handlers return, on the event loop (asyncio, uvloop) whose thread runs the server: the Tasks that
// they have become, and the spare Task for the next. The first step of a coroutine is in coroutines/first_step.h. GIL;
// loop thread.
#pragma once

#include "py/coroutines/spare_task.h"

namespace uwserve {

class Coroutines {
  public:
    explicit Coroutines(ServerCore &core);

    // From now on coroutines belong to `loop`. False with an exception set.
    bool set_loop(PyObject *loop, PyObject *tools);
    // The server no longer uses the loop. Tasks that are left end with the loop.
    void forget_loop();

    // Around the iterations of the loop: coroutines that start in one share an entered task.
    void begin_pump() {
        is_pumping_ = true;
        has_begun_ = false;
    }
    void end_pump() {
        is_pumping_ = false;
        leave_if_idle();
    }
    bool is_pumping() const { return is_pumping_; }
    // A Task has begun in this pump, or a future was resolved: the event loop has something to do.
    bool has_begun() const { return has_begun_; }
    void needs_turn() { has_begun_ = true; }
    void leave_if_idle() { spare.leave_if_idle(); }
    void before_call(PyObject *handler) {
        if (spare.is_entered() && !spare.is_stepping() && !makes_coroutine(handler)) spare.leave();
    }
    bool is_stepping() const { return spare.is_stepping(); }
    bool is_busy() const { return spare.is_busy(); }

    // The Task has its coroutine now: what its end means for `ws` and `origin` is dealt with, in its Context. False
    // with an exception set.
    bool watch(const Ref &task, PyObject *context, Driver *driver, WsObject *ws, Origin origin);
    void task_ended(PyObject *task);
    // Tasks that the server's end waits for.
    bool has_tasks() const { return waits_ && tasks_ && PySet_GET_SIZE(tasks_.get()) > 0; }
    PyObject *tasks() const { return tasks_.get(); }  // NULL or a set, borrowed
    // Cancels every task except the current one.
    void cancel_tasks();
    // The server no longer waits for Tasks that do not end, nor for later ones.
    void forget_tasks() { waits_ = false; }

    int traverse(visitproc visit, void *arg);
    void clear();

    SpareTask spare;

  private:
    // The code of an `async def` has this flag (CO_COROUTINE).
    static constexpr int kCoroutineFunction = 0x80;
    static bool makes_coroutine(PyObject *handler) {
        if (PyMethod_Check(handler)) handler = PyMethod_GET_FUNCTION(handler);
        return PyFunction_Check(handler) &&
               (reinterpret_cast<PyCodeObject *>(PyFunction_GET_CODE(handler))->co_flags & kCoroutineFunction);
    }

    ServerCore &core_;
    Ref tasks_;
    bool is_pumping_ = false;
    bool has_begun_ = false;
    bool waits_ = true;
};

}  // namespace uwserve
