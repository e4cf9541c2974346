#include "py/request/streams.h"

#include "docstrings.h"
#include "py/interpreter/objects.h"
#include "py/request/answers.h"
#include "py/server/server_object.h"
#include "py/websocket/payload.h"

namespace uwserve {

namespace {

constexpr const char *kPieceName = "a piece of a streamed body";

// The common part of both kinds: a Python object, and reports of failures.
class PythonStream : public BodyStream {
  public:
    PythonStream(ServerCore &core, PyObject *object, Ref) : core_(core), object_(Ref::borrow(object)) {}
    void no_memory() override {
        core_.gil.ensure();
        PyErr_NoMemory();
        core_.log_failure(Origin::kStream);
    }
    void wrong_length(bool too_long) override {
        core_.gil.ensure();
        PyErr_Format(PyExc_ValueError, "a streamed body gave %s bytes than its Content-Length",
                     too_long ? "more" : "fewer");
        core_.log_failure(Origin::kStream);
    }
    void *held() const override { return object_.get(); }

  protected:
    ServerCore &core_;
    Ref object_;
};

// A Python iterator as the source. All of it runs in one Context, that of its request.
class IteratorStream : public PythonStream {
  public:
    IteratorStream(ServerCore &core, PyObject *object, Ref context)
        : PythonStream(core, object, Ref()), context_(context.release()) {}
    ~IteratorStream() override {
        core_.gil.ensure();
        SavedError error;
        core_.coroutines.leave_if_idle();
        close();
        Ref context = Ref::steal(std::exchange(context_, nullptr));
    }
    void close() {
        ContextScope scope = core_.scope(&context_);
        piece_.reset();
        if (guarded<PyObject_HasAttrString>(object_.get(), "close")) {
            if (!call_method(object_.get(), "close")) core_.log_failure(Origin::kStream);
        }
        object_.reset();
    }
    Next next(std::string_view &piece) override {
        core_.gil.ensure();
        core_.coroutines.leave_if_idle();
        ContextScope scope = core_.scope(&context_);
        if (!scope) {
            core_.log_failure(Origin::kStream);
            return Next::kFailed;
        }
        piece_.reset();
        payload_.reset();
        piece_ = Ref::steal(guarded<PyIter_Next>(object_.get()));
        if (!piece_) {
            if (!PyErr_Occurred()) return Next::kEnd;
            core_.log_failure(Origin::kStream);
            return Next::kFailed;
        }
        payload_ = std::make_unique<Payload>();
        if (!payload_->read(piece_.get(), PayloadKind::kAny, kPieceName)) {
            core_.log_failure(Origin::kStream);
            return Next::kFailed;
        }
        piece = payload_->view();
        return Next::kPiece;
    }

  private:
    PyObject *context_;  // a slot
    Ref piece_;
    std::unique_ptr<Payload> payload_;
};

// Pieces that a coroutine pushes, one at a time, each when it is wanted; the object is the callback to call then.
class PushedStream : public PythonStream {
  public:
    using PythonStream::PythonStream;
    ~PushedStream() override {
        core_.gil.ensure();
        SavedError error;
        // Without hooks the garbage collector has cleared the server, and the callback with it.
        if (core_.dispatch) call_back(core_, object_.get(), false);
        object_.reset();
    }
    Next next(std::string_view &piece) override {
        if (has_piece_) {
            has_piece_ = false;
            piece = piece_;
            return Next::kPiece;
        }
        if (!std::exchange(is_wanted_, true) && !is_pushing_) {
            core_.gil.ensure();
            Ref callback = Ref::borrow(object_.get());
            call_back(core_, callback.get(), true);  // this may be gone afterwards
        }
        return Next::kLater;
    }
    bool is_wanted() const { return is_wanted_; }
    bool is_pushing() const { return is_pushing_; }
    // Between these two HttpConnections pumps, and copies the part of the piece that it cannot send at once.
    void begin_push(std::string_view piece) {
        piece_ = piece;
        has_piece_ = is_pushing_ = true;
        is_wanted_ = false;
    }
    void end_push() { has_piece_ = is_pushing_ = false; }

  private:
    // Twice if the handler of a signal has raised in there: the waiting coroutine must go on.
    static void call_back(ServerCore &core, PyObject *callback, bool is_wanted) {
        core.coroutines.needs_turn();
        for (int i = 0; i < 2; i++) {
            Ref result = Ref::steal(guarded<PyObject_CallOneArg>(callback, is_wanted ? Py_True : Py_False));
            if (result) return;
            core.log_failure(Origin::kStream);
        }
    }

    std::string_view piece_;
    bool has_piece_ = false, is_wanted_ = false, is_pushing_ = false;
};

// The pushed body of the response to the request; NULL when it has ended.
PushedStream *stream_of(const RequestObject *request) {
    HttpConnection *conn = request->conn;
    return conn && !conn->s->closed ? dynamic_cast<PushedStream *>(conn->stream.get()) : nullptr;
}

// For both kinds. `is_source`: whether the last argument suits Stream; `what` completes the error's text.
template <typename Stream>
PyObject *respond_with(PyObject *self, PyObject *const *args, Py_ssize_t count, const char *name,
                       int (*is_source)(PyObject *), const char *what) {
    ResponseArguments given;
    if (!given.read(self, args, count, name)) return nullptr;
    auto &[core, request, status, headers] = given;
    if (!is_source(args[3])) {
        PyErr_Format(PyExc_TypeError, "%s, not %.200s", what, Py_TYPE(args[3])->tp_name);
        return nullptr;
    }
    if (!is_open(request)) Py_RETURN_FALSE;
    Ref context;
    if constexpr (std::is_same_v<Stream, IteratorStream>) {
        context = context_for(*core, request, true);
        if (!context && PyErr_Occurred()) return nullptr;
    }
    auto stream = std::make_unique<Stream>(*core, args[3], std::move(context));
    ServerCore::DispatchScope entry(*core);
    HttpConnection &conn = *request->conn;
    if (headers.wants_close()) conn.head->close = true;
    stream_response(conn, status, headers.fields(), std::move(stream), headers.content_length());
    core->gil.ensure();
    Py_RETURN_TRUE;
}

PyObject *respond_stream(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return respond_with<IteratorStream>(self, args, count, "Server.respond_stream", PyIter_Check,
                                        "body must be an iterator");
}

PyObject *respond_pushed(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return respond_with<PushedStream>(self, args, count, "Server.respond_pushed", PyCallable_Check,
                                      "tell must be callable");
}

PyObject *push_piece(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = controlled_core(self);
    if (!core || !check_count("Server.push_piece", count, 2)) return nullptr;
    RequestObject *request = read_request(core, args[0], "Server.push_piece");
    Payload payload;
    if (!request || !payload.read(args[1], PayloadKind::kAny, kPieceName)) return nullptr;
    PushedStream *stream = stream_of(request);
    if (!stream) Py_RETURN_FALSE;
    if (!stream->is_wanted()) {
        PyErr_SetString(PyExc_RuntimeError, "no piece of this body is wanted now");
        return nullptr;
    }
    {
        ServerCore::DispatchScope entry(*core);
        stream->begin_push(payload.view());
        pump_stream(*request->conn);
        core->gil.ensure();
        if ((stream = stream_of(request))) stream->end_push();
    }
    core->gil.ensure();
    stream = stream_of(request);
    return PyBool_FromLong(stream && stream->is_wanted());
}

PyObject *end_pushed(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    ServerCore *core = controlled_core(self);
    if (!core || !check_count("Server.end_pushed", count, 2)) return nullptr;
    RequestObject *request = read_request(core, args[0], "Server.end_pushed");
    int complete = request ? guarded<PyObject_IsTrue>(args[1]) : -1;
    if (complete < 0) return nullptr;
    PushedStream *stream = stream_of(request);
    if (!stream) Py_RETURN_FALSE;
    if (stream->is_pushing()) {
        PyErr_SetString(PyExc_RuntimeError, "a piece of this body is being sent");
        return nullptr;
    }
    ServerCore::DispatchScope entry(*core);
    uwserve::end_stream(*request->conn, complete != 0);
    core->gil.ensure();
    Py_RETURN_TRUE;
}

}  // namespace

PyMethodDef kStreamMethods[] = {
    {"respond_stream", raw_fastcall<respond_stream>(), METH_FASTCALL, docs::kServerControl_respond_stream},
    {"respond_pushed", raw_fastcall<respond_pushed>(), METH_FASTCALL, docs::kServerControl_respond_pushed},
    {"push_piece", raw_fastcall<push_piece>(), METH_FASTCALL, docs::kServerControl_push_piece},
    {"end_pushed", raw_fastcall<end_pushed>(), METH_FASTCALL, docs::kServerControl_end_pushed},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace uwserve
