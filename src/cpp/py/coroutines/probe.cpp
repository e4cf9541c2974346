#include "py/coroutines/probe.h"

#include "py/coroutines/spare_task.h"
#include "py/interpreter/exception_barrier.h"
#include "py/interpreter/state.h"
#include "py/interpreter/types.h"

namespace uwserve {

namespace {

struct Probe {
    PyObject_HEAD SpareTask *spare;  // NULL: retired
    Py_hash_t hash;
};

Probe *as_probe(PyObject *object) { return reinterpret_cast<Probe *>(object); }

Py_hash_t hash(PyObject *object) { return as_probe(object)->hash; }

PyObject *compare(PyObject *object, PyObject *other, int operation) {
    SpareTask *spare = as_probe(object)->spare;
    if ((operation != Py_EQ && operation != Py_NE) || !spare || other != spare->loop() || !spare->unseen_task()) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Ref keep = Ref::borrow(object);
    if (!spare->mark_seen()) return nullptr;
    return PyBool_FromLong(operation == Py_EQ);
}

PyObject *call(PyObject *object, PyObject *args, PyObject *names) {
    if (PyTuple_GET_SIZE(args) || (names && PyDict_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "a probe takes no arguments");
        return nullptr;
    }
    SpareTask *spare = as_probe(object)->spare;
    Ref keep = Ref::borrow(object), task = Ref::borrow(spare ? spare->unlisted_task() : nullptr);
    if (!task) Py_RETURN_NONE;
    return spare->mark_seen() ? task.release() : nullptr;
}

}  // namespace

PyObject *new_probe(const ModuleState &state, SpareTask &spare, PyObject *loop) {
    Py_hash_t hash_of_loop = guarded<PyObject_Hash>(loop);
    PyObject *object = hash_of_loop == -1 ? nullptr : new_object(state.probe_type);
    if (!object) return nullptr;
    as_probe(object)->spare = &spare;
    as_probe(object)->hash = hash_of_loop;
    return object;
}

void retire_probe(PyObject *probe) { as_probe(probe)->spare = nullptr; }

bool add_probe_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>("Stands for the Task of a handler's coroutine that nobody has looked at yet.")},
        {Py_tp_hash, raw_slot<hash>()},
        {Py_tp_richcompare, raw_slot<compare>()},
        {Py_tp_call, raw_slot<call>()},
        {Py_tp_dealloc, raw_slot<free_instance>()},
        {0, nullptr},
    };
    return make_type(module, "uwserve._core.TaskProbe", sizeof(Probe), slots, &state->probe_type);
}

}  // namespace uwserve
