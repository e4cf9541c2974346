// Binary messages as bytearray or memoryview.
//
// A memoryview shows a large message where it lies (the loop's receive buffer or the connection's assembly) and is
// released when the handler returns. But a slice of it, or an array over it, shares the memory and survives the release.
// So the view's owner is an object of ours that counts its exports: if any is left after the release, the owner takes
// the memory over and the loop or connection gets a new buffer. Small messages are copied: cheaper than either.
#include <cstdlib>

#include "py/websocket/object.h"

namespace uwserve {

namespace {

constexpr size_t kViewBytes = 16 * 1024;

struct ViewOwner {
    PyObject_HEAD const char *data;
    Py_ssize_t size;
    Py_ssize_t exports;
    us_loop_t *loop;  // set while the message lies in this loop's receive buffer
    MessageBuffer *message_buffer;  // set while it lies in this connection's assembly
    void *taken_buffer;  // the receive buffer that was taken over
    char *taken_assembly;
    std::shared_ptr<DeferredFree> deferred_free;  // of taken_buffer
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
    PyTypeObject *type = Py_TYPE(object);
    if (self->taken_buffer) self->deferred_free->bury(self->taken_buffer);
    self->deferred_free.~shared_ptr();
    free(self->taken_assembly);
    type->tp_free(object);
    Py_DECREF(type);
}

bool lies_in(std::string_view message, const char *memory, size_t size) {
    return message.data() >= memory && message.data() < memory + size;
}

// Exports have outlived the callback: the memory becomes the owner's.
void take_memory(ServerCore &core, ViewOwner *self) {
    if (self->message_buffer) {
        self->taken_assembly = self->message_buffer->take().release();
    } else {
        self->deferred_free = core.deferred_free;
        self->taken_buffer = us_loop_take_recv_buffer(self->loop);
    }
}

}  // namespace

BinaryMessage make_binary(ServerCore &core, Socket *ws, BinaryType type, std::string_view message) {
    BinaryMessage result;
    Py_ssize_t size = static_cast<Py_ssize_t>(message.size());
    if (type == BinaryType::kByteArray) {
        result.object = Ref::steal(PyByteArray_FromStringAndSize(message.data(), size));
        return result;
    }
    Ref &owner = result.owner;
    us_loop_t *loop = core.instance->loop();
    MessageBuffer &message_buffer = message_buffer_of(raw(ws));
    bool in_assembly = lies_in(message, message_buffer.data(), message_buffer.capacity());
    bool in_buffer = lies_in(message, us_loop_recv_buffer(loop), LIBUS_RECV_BUFFER_LENGTH);
    if (message.size() < kViewBytes || !(in_assembly || (in_buffer && us_loop_prepare_recv_buffer(loop)))) {
        owner = Ref::steal(PyBytes_FromStringAndSize(message.data(), size));
    } else {
        PyTypeObject *owner_type = core.state->view_owner_type;
        owner = Ref::steal(new_object(owner_type));
        if (owner) {
            ViewOwner *self = as_owner(owner.get());
            new (&self->deferred_free) std::shared_ptr<DeferredFree>();
            self->data = message.data();
            self->size = size;
            self->message_buffer = in_assembly ? &message_buffer : nullptr;
            self->loop = loop;
        }
    }
    if (owner) result.object = Ref::steal(guarded<PyMemoryView_FromObject>(owner.get()));
    return result;
}

void release_view(ServerCore &core, BinaryMessage &message) {
    SavedError error;
    Ref released = Ref::steal(guarded<PyObject_CallMethod>(message.object.get(), "release", nullptr));
    if (!released) PyErr_Clear();  // BufferError: an export of the view itself is alive
    message.object.reset();
    if (Py_TYPE(message.owner.get()) != core.state->view_owner_type) return;
    ViewOwner *self = as_owner(message.owner.get());
    if (self->exports) {
        take_memory(core, self);
    } else {
        self->data = nullptr;  // the owner may be kept, as the view's `obj`; what it shows is over
    }
}

bool add_view_owner_type(PyObject *module, ModuleState *state) {
    PyType_Slot slots[] = {
        {Py_tp_dealloc, raw_slot<owner_dealloc>()},
        {Py_bf_getbuffer, raw_slot<get_buffer>()},
        {Py_bf_releasebuffer, raw_slot<release_buffer>()},
        {0, nullptr},
    };
    PyType_Spec spec = {"uwserve._core.MessageOwner", sizeof(ViewOwner), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    state->view_owner_type = reinterpret_cast<PyTypeObject *>(type);
    return type != nullptr;
}

}  // namespace uwserve
