#include "py/coroutines/first_step.h"

#include <optional>

#include "docstrings.h"
#include "py/interpreter/objects.h"
#include "py/server/server_object.h"
#include "py/websocket/object.h"

namespace uwserve {

namespace {

constexpr int kIterableCoroutine = 0x100;  // CO_ITERABLE_COROUTINE

bool is_iterable_coroutine(PyObject *generator) {
    Ref code = get_attribute(generator, "gi_code");
    if (!code || !PyCode_Check(code.get())) {
        PyErr_Clear();
        return false;
    }
    return reinterpret_cast<PyCodeObject *>(code.get())->co_flags & kIterableCoroutine;
}

// Compiled coroutines (Cython's) and other classes. An awaitable without send() is a future, which has an owner.
bool is_foreign_coroutine(PyObject *object) {
    PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;
    if (!methods || !methods->am_await) return false;
    Ref type = import_from("collections.abc", "Coroutine");
    int answer = type ? guarded<PyObject_IsInstance>(object, type.get()) : -1;
    if (answer < 0) PyErr_Clear();
    return answer > 0;
}

void close_unstarted(const Ref &coroutine) {
    SavedError error;
    if (!call_method(coroutine.get(), "close")) PyErr_Clear();
}

// -1 with an exception set.
int is_loop_running(const SpareTask &spare) {
    Ref running = Ref::steal(guarded<PyObject_CallNoArgs>(spare.tools().running_loop));
    return running ? running.get() == spare.loop() : -1;
}

// Makes sure that there is a loop that can run. False with an exception set.
bool find_loop(ServerCore &core) {
    if (PyObject *loop = core.coroutines.spare.loop()) {
        Ref is_closed = call_method(loop, "is_closed");
        if (!is_closed) return false;
        if (is_closed.get() != Py_True) return true;
    }
    return core.run.ask_for_event_loop();
}

// While the event loop does not run: a Task that begins when it does.
Ref start_later(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin, PyObject *base) {
    Ref driver = Ref::steal(as_object(new_driver(core)));
    Ref context, pristine;
    Ref task = driver ? core.coroutines.spare.make_task(as_driver(driver), base, &context, &pristine) : Ref();
    if (!task) {
        close_unstarted(coroutine);
        return Ref();
    }
    as_driver(driver)->coroutine = coroutine.release();
    if (!core.coroutines.watch(task, context.get(), as_driver(driver), ws, origin)) core.log_failure(origin, ws);
    return task;
}

struct StepEnd {
    SpareTask &spare;
    ~StepEnd() { spare.end_step(); }
};

// start_coroutine(coroutine, where="fetch"): its Task if it has suspended, else None.
PyObject *start(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = controlled_core(self);
    if (!core || !core->check_alive("Server.start_coroutine") || !core->check_loop_thread("Server.start_coroutine"))
        return nullptr;
    if (count < 1 || count > 2 || (count == 2 && !PyUnicode_Check(args[1]))) {
        PyErr_SetString(PyExc_TypeError, "start_coroutine() takes a coroutine, and where exceptions out of it count");
        return nullptr;
    }
    const char *where = count == 2 ? PyUnicode_AsUTF8(args[1]) : "fetch";
    if (!where) return nullptr;
    Ref task = run_coroutine(*core, nullptr, Ref::borrow(args[0]), origin_named(where));
    return task ? task.release() : Py_NewRef(Py_None);
}

}  // namespace

bool is_other_coroutine(PyObject *object) {
    return PyGen_CheckExact(object) ? is_iterable_coroutine(object) : is_foreign_coroutine(object);
}

Ref run_coroutine(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin) {
    RunningHandlers::Argument scope(core.running_handlers, nullptr);
    if (ws) return start_coroutine(core, ws, std::move(coroutine), origin, ws->context);
    Ref context = core.contexts.changed_copy();
    if (!context && PyErr_Occurred()) {
        coroutine_failed(core, ws, origin);
        return Ref();
    }
    return start_coroutine(core, ws, std::move(coroutine), origin, context.get());
}

int is_cancelled_error(PyObject *error) {
    Ref type = import_from("asyncio", "CancelledError");
    return type ? PyErr_GivenExceptionMatches(error, type.get()) : -1;
}

void coroutine_failed(ServerCore &core, WsObject *ws, Origin origin) {
    Ref error = take_exception();
    const int is_cancelled = is_cancelled_error(error.get());
    if (is_cancelled < 0) PyErr_Clear();
    if (is_cancelled > 0) {
        error.reset();  // cancellation is no failure
    } else {
        raise_again(error.get());
        origin == Origin::kError ? core.log_failure(origin, ws) : core.handler_failed(ws, origin);
    }
    if (origin == Origin::kOpen && ws && ws->ws) core.close_handle(ws, 1011, {});
}

Ref prepare_first_step(ServerCore &core, WsObject *ws, Ref coroutine, Origin origin, PyObject *context) {
    SpareTask &spare = core.coroutines.spare;
    // Inside another coroutine's step, code may see only that coroutine's Task, and this one gets a spare of its own.
    const bool is_nested = spare.is_stepping(), was_entered = spare.is_entered(), is_apart = is_nested || context;
    bool is_inside = is_apart || core.contexts.is_in_use();
    Ref result, base = Ref::borrow(context ? context : core.contexts.base());
    if (is_nested) {
        if (!spare.mark_seen()) PyErr_Clear();  // a lookup will find no Task
        spare.reveal();
    }
    std::optional<SpareTask::Aside> apart;
    if (is_apart) {
        if (!is_nested) spare.leave_if_idle();
        apart.emplace(spare, was_entered && is_nested, is_nested);
    }
    Contexts::Aside aside(core.contexts, ws ? nullptr : core.contexts.request());
    int running = spare.loop() ? is_loop_running(spare) : 0;
    if (running == 0) running = find_loop(core) ? is_loop_running(spare) : -1;
    bool is_later = running == 0 || (running > 0 && spare.is_preparing());
    if (running > 0 && !is_later && base && spare.enter(context)) {
        bool has_outer = spare.has_outer_task();
        result = take_first_step(core, ws, std::move(coroutine), origin);
        if (spare.is_entered() && (is_inside || has_outer || !core.coroutines.is_pumping())) spare.leave();
    } else if (is_later && base) {
        result = start_later(core, ws, std::move(coroutine), origin, base.get());
    } else {
        close_unstarted(coroutine);
    }
    if (!result && PyErr_Occurred()) coroutine_failed(core, ws, origin);
    return result;
}

Ref finish_first_step(ServerCore &core, WsObject *ws, Ref coroutine, PySendResult status, Ref out, Origin origin) {
    SpareTask &spare = core.coroutines.spare;
    StepEnd at_end{spare};
    if (status == PYGEN_NEXT) {
        core.coroutines.needs_turn();
        SpareTask::Parts own = spare.give_away(std::move(coroutine), std::move(out));
        if (!core.coroutines.watch(own.task, own.context.get(), as_driver(own.driver), ws, origin))
            core.log_failure(origin, ws);
        return std::move(own.task);
    }
    const bool has_failed = status == PYGEN_ERROR;
    if (has_failed) out = take_exception();
    coroutine.reset();
    if (has_failed) {
        raise_again(out.get());
        coroutine_failed(core, ws, origin);
    }
    if (spare.has_traces()) [[unlikely]]
        spare.end_with(std::move(out), has_failed);
    return Ref();
}

PyMethodDef kCoroutineMethods[] = {
    {"start_coroutine", raw_fastcall<start>(), METH_FASTCALL, docs::kServerControl_start_coroutine},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
