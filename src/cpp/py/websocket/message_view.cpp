#include "py/websocket/message_view.h"

#include <cstdlib>

#include "py/interpreter/types.h"
#include "uws/websocket/message_loan.h"

namespace uwserve {

namespace {

constexpr size_t kViewBytes = 16 * 1024;

struct ViewOwner {
    PyObject_HEAD const char *data;  // NULL once the handler has returned
    Py_ssize_t size;
    Py_ssize_t exports;
    MessageLoan loan;
    void *memory;  // once it was taken over
    std::shared_ptr<DeferredFree> deferred_free;  // set if `memory` is a receive buffer
};

ViewOwner *as_owner(PyObject *object) { return reinterpret_cast<ViewOwner *>(object); }

int get_buffer(PyObject *object, Py_buffer *view, int flags) {
    ViewOwner *self = as_owner(object);
    if (!self->data) {
        PyErr_SetString(PyExc_BufferError, "the message could be read during its handler only");
        view->obj = nullptr;
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, const_cast<char *>(self->data), self->size, 1, flags) < 0) return -1;
    self->exports++;
    return 0;
}

void release_buffer(PyObject *object, Py_buffer *) { as_owner(object)->exports--; }

void owner_dealloc(PyObject *object) {
    ViewOwner *self = as_owner(object);
    if (self->deferred_free) {
        self->deferred_free->add(self->memory);
    } else {
        free(self->memory);
    }
    self->deferred_free.~shared_ptr();
    free_instance(object);
}

Ref make_owner(ServerCore &core, Socket *ws, std::string_view message) {
    MessageLoan loan = message.size() < kViewBytes ? MessageLoan() : MessageLoan(ws, message);
    if (!loan) return Ref::steal(make_bytes(message));
    Ref owner = Ref::steal(new_object(core.state->view_owner_type));
    if (owner) {
        ViewOwner *self = as_owner(owner.get());
        new (&self->deferred_free) std::shared_ptr<DeferredFree>();
        self->data = message.data();
        self->size = static_cast<Py_ssize_t>(message.size());
        self->loan = loan;
    }
    return owner;
}

}  // namespace

BinaryMessage make_binary(ServerCore &core, Socket *ws, BinaryType type, std::string_view message) {
    if (type == BinaryType::kByteArray) {
        auto size = static_cast<Py_ssize_t>(message.size());
        return {Ref::steal(PyByteArray_FromStringAndSize(message.data(), size)), Ref()};
    }
    Ref owner = make_owner(core, ws, message);
    if (!owner) return {};
    Ref view = Ref::steal(guarded<PyMemoryView_FromObject>(owner.get()));
    return {std::move(view), std::move(owner)};
}

void release_view(ServerCore &core, BinaryMessage &message) {
    SavedError error;
    if (!call_method(message.object.get(), "release")) PyErr_Clear();  // BufferError: the view itself is exported
    message.object.reset();
    if (Py_TYPE(message.owner.get()) != core.state->view_owner_type) return;
    ViewOwner *self = as_owner(message.owner.get());
    if (!self->exports) {
        self->data = nullptr;  // the owner may live on, as the `obj` of the released view
        return;
    }
    if (self->loan.is_receive_buffer()) self->deferred_free = core.deferred_free;
    self->memory = self->loan.take_over();
}

bool add_view_owner_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_dealloc, raw_slot<owner_dealloc>()},
        {Py_bf_getbuffer, raw_slot<get_buffer>()},
        {Py_bf_releasebuffer, raw_slot<release_buffer>()},
        {0, nullptr},
    };
    return make_type(module, "uwserve._core.MessageOwner", sizeof(ViewOwner), slots, &state->view_owner_type);
}

}  // namespace uwserve
