// The driver: the coroutine with which the Task of a handler's coroutine is made. It is a Python object of its own, and
// exists before the user's coroutine does; later it forwards everything to that.
#pragma once

#include "py/coroutines/running_handlers.h"
#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;
struct ModuleState;
struct WsObject;

struct Driver {
    PyObject_HEAD ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    PyObject *coroutine;  // the user's; NULL: none has come yet, or it has ended
    PyObject *first_yield;  // what the coroutine yielded before the Task's first step
    PyObject *idle_future;  // what the Task waits for as a spare
    PyObject *ws;
    PyObject *request;  // for which the coroutine runs
    PyObject *seen_task;  // the Task, if it was seen while it was a spare
    PyObject *outcome;  // of a spare that ends as a Task: an exception when has_failed
    Origin origin;  // of the coroutine
    RunningHandler running;  // counted from Coroutines::watch() until the Task has ended, or is freed
    bool is_started;  // a coroutine has suspended, and the Task continues it
    bool has_failed;
    bool expired;  // the Task has taken its first step without a coroutine
    bool is_new;  // the Task is being made, by a factory that may step it
};

// NULL with an exception set.
Driver *new_driver(ServerCore &core);
inline Driver *as_driver(const Ref &object) { return reinterpret_cast<Driver *>(object.get()); }
bool add_driver_type(PyObject *module, ModuleState *state);

}  // namespace uwserve
