#include "py/server/timed_call.h"

#include <structmember.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "py/interpreter/exception_barrier.h"
#include "py/interpreter/types.h"
#include "uws/loop/clock.h"
#include "docstrings.h"

namespace uwserve {

namespace {

class Histogram {
  public:
    void add(uint64_t ns) {
        counts_[bucket(ns)]++;
        count_++;
        total_ += ns;
        max_ = std::max(max_, ns);
    }
    uint64_t count() const { return count_; }
    uint64_t total() const { return total_; }
    uint64_t max() const { return max_; }
    // The middle of the bucket in which that share of all times is reached.
    uint64_t percentile(unsigned percent) const {
        uint64_t wanted = (count_ * percent + 99) / 100, seen = 0;
        for (size_t i = 0; i < counts_.size(); i++) {
            seen += counts_[i];
            if (counts_[i] && seen >= wanted) return std::min(middle(i), max_);
        }
        return 0;
    }

  private:
    static constexpr unsigned kBits = 3;  // that count behind the leading one of a number
    static constexpr size_t kPerPower = 1u << kBits;
    static size_t bucket(uint64_t ns) {
        if (ns < kPerPower) return ns;
        unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - kBits;
        return (shift + 1) * kPerPower + ((ns >> shift) & (kPerPower - 1));
    }
    static uint64_t middle(size_t index) {
        if (index < 2 * kPerPower) return index;
        size_t shift = index / kPerPower - 1;
        return ((kPerPower + index % kPerPower) << shift) + (uint64_t{1} << (shift - 1));
    }
    std::array<uint64_t, (64 - kBits + 1) * kPerPower> counts_{};
    uint64_t count_ = 0, total_ = 0, max_ = 0;
};

struct TimedCall {
    PyObject_HEAD PyObject *handler;
    vectorcallfunc vectorcall;
    Histogram times;
};

TimedCall *as_timed(PyObject *object) { return reinterpret_cast<TimedCall *>(object); }

PyObject *call(PyObject *object, PyObject *const *args, size_t count, PyObject *names) {
    Ref handler = Ref::borrow(as_timed(object)->handler);
    uint64_t begun = monotonic_ns();
    PyObject *result = guarded<PyObject_Vectorcall>(handler.get(), args, count, names);
    as_timed(object)->times.add(monotonic_ns() - begun);  // the caller holds a reference to the TimedCall
    return result;
}

PyObject *make(PyTypeObject *type, PyObject *args, PyObject *names) {
    PyObject *handler = nullptr;
    if (names && PyDict_GET_SIZE(names)) {
        PyErr_SetString(PyExc_TypeError, "TimedCall() takes no keywords");
        return nullptr;
    }
    if (!PyArg_ParseTuple(args, "O:TimedCall", &handler)) return nullptr;
    if (!PyCallable_Check(handler)) {
        PyErr_Format(PyExc_TypeError, "a handler must be callable, got %.200s", Py_TYPE(handler)->tp_name);
        return nullptr;
    }
    PyObject *object = new_object(type);
    if (!object) return nullptr;
    TimedCall *self = as_timed(object);
    self->handler = Py_NewRef(handler);
    self->vectorcall = raw_call<call>;
    self->times = Histogram();
    return object;
}

int traverse(PyObject *object, visitproc visit, void *arg) {
    return visit_all(visit, arg, {as_object(Py_TYPE(object)), as_timed(object)->handler});
}

void dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    clear_all({&as_timed(object)->handler});
    free_instance(object);
}

PyObject *record(PyObject *object, PyObject *ns) {
    unsigned long long value = PyLong_AsUnsignedLongLong(ns);
    if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred()) return nullptr;
    as_timed(object)->times.add(value);
    Py_RETURN_NONE;
}

PyObject *take(PyObject *object, PyObject *) {
    const Histogram times = std::exchange(as_timed(object)->times, Histogram());
    auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
    return guarded<Py_BuildValue>("{s:K,s:K,s:K,s:K,s:K,s:K}", "count", number(times.count()), "total",
                                  number(times.total()), "p50", number(times.percentile(50)), "p90",
                                  number(times.percentile(90)), "p99", number(times.percentile(99)), "max",
                                  number(times.max()));
}

PyMethodDef kMethods[] = {
    {"record", raw_call<record>, METH_O, docs::kTimedCall_record},
    {"take", raw_call<take>, METH_NOARGS, docs::kTimedCall_take},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef kMembers[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(TimedCall, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

}  // namespace

// No tp_clear: the handler is set for life, and the objects that hold a TimedCall can be cleared (the server's options,
// a dict of the facade's).
bool add_timed_call_type(PyObject *module) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>(docs::kTimedCall)},
        {Py_tp_new, raw_slot<make>()},
        {Py_tp_traverse, raw_slot<traverse>()},
        {Py_tp_dealloc, raw_slot<dealloc>()},
        {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
        {Py_tp_methods, kMethods},
        {Py_tp_members, kMembers},
        {0, nullptr},
    };
    PyType_Spec spec = {"uwserve._core.TimedCall", sizeof(TimedCall), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, slots};
    Ref type = Ref::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return type && PyModule_AddObjectRef(module, "TimedCall", type.get()) == 0;
}

}  // namespace uwserve
