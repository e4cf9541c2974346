#include "py/coroutines/coroutine_methods.h"

#include "docstrings.h"
#include "py/server/core.h"
#include "py/server/server_object.h"

namespace uwserve {

namespace {

// start(coroutine, where="fetch"): its Task when it has suspended, else None.
PyObject *start(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = controlled_core(self);
    if (!core || !core->check_alive("Server.start_coroutine")) return nullptr;
    if (!core->on_loop_thread()) {
        core->refuse_thread("Server.start_coroutine");
        return nullptr;
    }
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

PyMethodDef kCoroutineMethods[] = {
    {"start_coroutine", raw_fastcall<start>(), METH_FASTCALL, docs::kServerControl_start_coroutine},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
