#include "py/server/loop_reader.h"

#include <structmember.h>

#include "py/interpreter/types.h"

namespace uwserve {

namespace {

struct LoopReader {
    PyObject_HEAD vectorcallfunc call;
    ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    PyObject *on_end;
};

LoopReader *as_reader(PyObject *object) { return reinterpret_cast<LoopReader *>(object); }

PyObject *call_reader(PyObject *object, PyObject *const *, size_t count, PyObject *names) {
    if (PyVectorcall_NARGS(count) || (names && PyTuple_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "a server's reader takes no arguments");
        return nullptr;
    }
    if (!as_reader(object)->core_object) Py_RETURN_NONE;
    Ref keep = Ref::borrow(object);  // the loop may drop it while it pumps
    Run::Pumped pumped;
    if (!as_reader(object)->core->run.pump(&pumped)) return nullptr;
    if (pumped == Run::Pumped::kGoesOn || !as_reader(object)->on_end) Py_RETURN_NONE;
    Ref on_end = Ref::borrow(as_reader(object)->on_end);
    return guarded<PyObject_CallFunction>(on_end.get(), "i", static_cast<int>(pumped));
}

int reader_traverse(PyObject *object, visitproc visit, void *arg) {
    return visit_all(visit, arg,
                     {as_object(Py_TYPE(object)), as_reader(object)->core_object, as_reader(object)->on_end});
}

int reader_clear(PyObject *object) {
    Py_CLEAR(as_reader(object)->on_end);
    Py_CLEAR(as_reader(object)->core_object);
    return 0;
}

void reader_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    reader_clear(object);
    free_instance(object);
}

PyMemberDef kMembers[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(LoopReader, call), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

}  // namespace

PyObject *new_loop_reader(ServerCore &core, PyObject *on_end) {
    if (!core.check_hooked()) return nullptr;
    PyTypeObject *type = core.state->loop_reader_type;
    PyObject *object = new_object(type);
    if (!object) return nullptr;
    LoopReader *self = as_reader(object);
    self->call = raw_call<call_reader>;
    self->core = &core;
    self->core_object = Py_NewRef(core.self);
    self->on_end = Py_NewRef(on_end);
    return object;
}

bool add_loop_reader_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>("What an event loop calls for a server.")},
        {Py_tp_traverse, raw_slot<reader_traverse>()},
        {Py_tp_clear, raw_slot<reader_clear>()},
        {Py_tp_dealloc, raw_slot<reader_dealloc>()},
        {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
        {Py_tp_members, kMembers},
        {0, nullptr},
    };
    return make_type(module, "uwserve._core.LoopReader", sizeof(LoopReader), slots, &state->loop_reader_type);
}

}  // namespace uwserve
