// The probe: asyncio's tables of Tasks hold it instead of a spare Task, so that every lookup of the Task is noticed.
//
// As a key of the dictionary of current tasks it has the hash of its loop. Every lookup of the loop (current_task(),
// timeouts, task groups, an eager Task, a debugger; in C or Python) compares the loop with the probe, and the
// comparison puts loop -> Task into the dictionary; CPython restarts a lookup when a comparison has changed the
// dictionary. The probe's value is None, so code that iterates over the dictionary sees no Task. The probe is also
// among the weak references of all_tasks(), which calls each of them. Called, it returns the running Task, unless that
// is in the set itself (adding it at once would change the set during the iteration). No Python code runs in any of
// this.
#include "py/server/core.h"

namespace uwserve {

namespace {

struct Probe {
    PyObject_HEAD Coroutines *coroutines;  // NULL: retired
    Py_hash_t hash;
};

Probe *as_probe(PyObject *object) { return reinterpret_cast<Probe *>(object); }

Py_hash_t hash(PyObject *object) { return as_probe(object)->hash; }

PyObject *compare(PyObject *object, PyObject *other, int operation) {
    Coroutines *coroutines = as_probe(object)->coroutines;
    if ((operation != Py_EQ && operation != Py_NE) || !coroutines || other != coroutines->loop() ||
        !coroutines->unseen()) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Ref keep = Ref::borrow(object);
    if (!coroutines->look()) return nullptr;
    return PyBool_FromLong(operation == Py_EQ);
}

PyObject *call(PyObject *object, PyObject *args, PyObject *names) {
    if (PyTuple_GET_SIZE(args) || (names && PyDict_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "a probe takes no arguments");
        return nullptr;
    }
    Coroutines *coroutines = as_probe(object)->coroutines;
    Ref keep = Ref::borrow(object), task = Ref::borrow(coroutines ? coroutines->unlisted() : nullptr);
    if (!task) Py_RETURN_NONE;
    return coroutines->look() ? task.release() : nullptr;
}

void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Ref of_type = Ref::steal(reinterpret_cast<PyObject *>(type));
}

}  // namespace

// It owns no reference: its maker retires it. NULL with an exception set.
PyObject *new_probe(ServerCore &core, PyObject *loop) {
    Py_hash_t of_loop = guarded<PyObject_Hash>(loop);
    if (of_loop == -1) return nullptr;
    PyTypeObject *type = core.state->probe_type;
    PyObject *object = new_object(type);
    if (!object) return nullptr;
    as_probe(object)->coroutines = &core.coroutines;
    as_probe(object)->hash = of_loop;
    return object;
}

void retire_probe(PyObject *probe) { as_probe(probe)->coroutines = nullptr; }

bool add_probe_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>("Stands for the Task of a handler's coroutine that nobody has looked at yet.")},
        {Py_tp_hash, raw_slot<hash>()},
        {Py_tp_richcompare, raw_slot<compare>()},
        {Py_tp_call, raw_slot<call>()},
        {Py_tp_dealloc, raw_slot<dealloc>()},
        {0, nullptr},
    };
    PyType_Spec spec = {"uwserve._core.TaskProbe", sizeof(Probe), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    state->probe_type = reinterpret_cast<PyTypeObject *>(type);
    return type != nullptr;
}

}  // namespace uwserve
