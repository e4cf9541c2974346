#include "py/interpreter/contexts.h"

#include <memory>
#include <new>

namespace uwserve {

namespace {

// The only Context (or the only other object) that `whole` refers to; a borrowed reference, or NULL.
PyObject *only_part(PyObject *whole, bool is_context) {
    struct Search {
        bool is_context;
        PyObject *found;
        int count;
    } search{is_context, nullptr, 0};
    Py_TYPE(whole)->tp_traverse(whole, [](PyObject *part, void *arg) {
        auto *search = static_cast<Search *>(arg);
        if (PyContext_CheckExact(part) != search->is_context) return 0;
        search->found = part;
        search->count++;
        return 0;
    }, &search);
    return search.count == 1 ? search.found : nullptr;
}

// The index of the pointer in a Context that refers to its variables: reading it is cheaper than a traversal. 0:
// unknown.
size_t place_of(PyObject *variables, PyObject *context) {
    PyObject *const *pointers = reinterpret_cast<PyObject **>(context);
    size_t count = static_cast<size_t>(Py_TYPE(context)->tp_basicsize) / sizeof(PyObject *), found = 0;
    for (size_t i = sizeof(PyObject) / sizeof(PyObject *); variables && i < count; i++) {
        if (pointers[i] != variables) continue;
        if (found) return 0;
        found = i;
    }
    return found;
}

// When the variables of a Context cannot be found, each Context counts as changed.
PyObject *const kNothing = nullptr;
PyObject *const kUnknown = Py_None;

void must_exit(PyObject *context) {
    SavedError error;
    if (PyContext_Exit(context) != 0) guarded<PyErr_WriteUnraisable>(context);
}

}  // namespace

// A Context refers to its variables, and to the Context that was entered before it.
PyObject *variables_of(PyObject *context) { return only_part(context, false); }

PyObject *context_of(PyObject *task) { return only_part(task, true); }

// --- the base ---

bool Contexts::set_base() {
    Ref context = Ref::steal(guarded<PyContext_CopyCurrent>());
    if (!context) return false;
    base_ = std::move(context);
    if (!has_begun_) {
        shared_.reset();
        watched_ = nullptr;
    }
    // The base is never entered, so it refers to its variables only. It keeps them alive, so no other map gets their
    // address.
    pristine_ = variables_of(base_.get());
    variables_at_ = place_of(pristine_, base_.get());
    if (!variables_at_) pristine_ = kUnknown;
    return true;
}

PyObject *Contexts::base() { return base_ || set_base() ? base_.get() : nullptr; }

// --- the shared Context ---

// Without a shared Context, every handler gets a fresh one.
bool Contexts::enter_shared() {
    user_ = &outside_;
    watched_ = nullptr;
    shared_ = base() ? Ref::steal(guarded<PyContext_Copy>(base_.get())) : Ref();
    if (!shared_ || PyContext_Enter(shared_.get()) != 0) {
        shared_.reset();
        return false;
    }
    watched_ = variables_at_ ? reinterpret_cast<PyObject *const *>(shared_.get()) + variables_at_ : &kNothing;
    user_ = nullptr;
    return true;
}

// At the first turn, after a change, or inside a handler that lets its event loop turn.
bool Contexts::begin_slowly() {
    if (has_begun_) return true;
    has_before_ = user_ != &outside_;
    before_ = put_aside(nullptr);
    if (!enter_shared()) {
        put_back(before_);
        has_before_ = false;
        return false;
    }
    has_begun_ = true;
    return true;
}

void Contexts::end_slowly() {
    if (!std::exchange(has_begun_, false)) return;
    if (!user_) must_exit(shared_.get());
    user_ = &outside_;
    shared_.reset();
    watched_ = nullptr;
    if (std::exchange(has_before_, false)) put_back(before_);
}

void Contexts::discard_changes() {
    if (user_ || *watched_ == pristine_) return;
    PyObject *nobody = nullptr;
    settle(&nobody);
    Ref gone = Ref::steal(nobody);
}

// The handler of that slot has changed the shared Context, or has made it its own.
void Contexts::settle(PyObject **slot) {
    SavedError error;
    Ref used = shared_ ? std::move(shared_) : Ref::borrow(current_);
    user_ = &outside_;
    current_ = nullptr;
    must_exit(used.get());
    if (variables(used.get()) != variables(base_.get())) {
        Ref before = Ref::steal(std::exchange(*slot, used.release()));
    }
    if (!enter_shared()) guarded<PyErr_WriteUnraisable>(nullptr);
}

// --- Contexts of their own, and handlers in handlers ---

Contexts::Entered *Contexts::enter(PyObject **slot) {
    std::unique_ptr<Entered> entered(new (std::nothrow) Entered{slot, Ref(), {}});
    if (!entered) {
        PyErr_NoMemory();
        return nullptr;
    }
    if (user_ == slot || (*slot && *slot == current_)) return entered.release();  // inside one of its own
    Ref context = *slot ? Ref::borrow(*slot) : base() ? Ref::steal(guarded<PyContext_Copy>(base_.get())) : Ref();
    if (!context) return nullptr;
    if (PyContext_Enter(context.get()) != 0) {
        // A handler of its owner waits further up the stack, so variables that this handler sets are lost.
        PyErr_Clear();
        context = Ref::steal(guarded<PyContext_Copy>(context.get()));
        if (!context || PyContext_Enter(context.get()) != 0) return nullptr;
    }
    entered->before = put_aside(nullptr);
    user_ = slot;
    current_ = context.get();
    entered->context = std::move(context);
    return entered.release();
}

void Contexts::exit(Entered *done) {
    std::unique_ptr<Entered> entered(done);
    if (!entered->context) return;
    SavedError error;
    put_back(entered->before);
    must_exit(entered->context.get());
    PyObject **slot = entered->slot;
    if (!*slot && variables(entered->context.get()) != variables(base_.get())) *slot = entered->context.release();
}

Ref Contexts::changed_copy() {
    if (!base()) return Ref();
    Ref copy = Ref::steal(guarded<PyContext_CopyCurrent>());
    return copy && is_changed(copy.get()) ? std::move(copy) : Ref();
}

Ref Contexts::of_running(PyObject **slot, bool even_if_pristine) {
    if (!base()) return Ref();
    if (user_ != slot) return *slot ? Ref::borrow(*slot) : Ref();
    if (current_) {
        if (!*slot && (even_if_pristine || is_changed(current_))) *slot = Py_NewRef(current_);
    } else if (!*slot && (even_if_pristine || *watched_ != pristine_)) {
        *slot = current_ = shared_.release();
        watched_ = &kNothing;
    }
    return *slot ? Ref::borrow(*slot) : Ref();
}

// --- garbage collection ---

int Contexts::traverse(visitproc visit, void *arg) {
    Py_VISIT(base_.get());
    Py_VISIT(shared_.get());
    return 0;
}

void Contexts::clear() {
    if (has_begun_) return;
    Ref base = std::move(base_), shared = std::move(shared_);
    pristine_ = nullptr;
}

}  // namespace uwserve
