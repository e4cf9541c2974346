#include "py/server/connection_log.h"

#include "py/websocket/object.h"

namespace uwserve {

namespace {

PyObject *object(WsObject *ws) { return reinterpret_cast<PyObject *>(ws); }

}  // namespace

// What the hook of the logger raises (its filters are users' code) is logged like any failure, and changes nothing else.
void ConnectionLog::ask(ServerCore &core, uint32_t now) {
    asked_at_ = now;
    wanted_ = false;
    if (!is_wanted) return;
    core.coroutines.leave_if_idle();
    Ref hook = Ref::borrow(is_wanted.get());
    Ref answer = Ref::steal(guarded<PyObject_CallNoArgs>(hook.get()));
    if (!answer) {
        core.log_failure(Origin::kConnectionLog);
        return;
    }
    wanted_ = answer.get() == Py_True;
}

void ConnectionLog::log_open(ServerCore &core, WsObject *ws) {
    core.coroutines.leave_if_idle();
    Ref hook = Ref::borrow(opened.get());
    Ref keep = Ref::borrow(object(ws));
    Ref result = Ref::steal(guarded<PyObject_CallOneArg>(hook.get(), keep.get()));
    if (!result) core.log_failure(Origin::kConnectionLog);
}

void ConnectionLog::log_close(ServerCore &core, WsObject *ws, int code, std::string_view reason) {
    core.coroutines.leave_if_idle();
    Ref hook = Ref::borrow(closed.get());
    Ref text = Ref::steal(PyUnicode_DecodeUTF8(reason.data(), static_cast<Py_ssize_t>(reason.size()), "replace"));
    Ref result =
        text ? Ref::steal(guarded<PyObject_CallFunction>(hook.get(), "OiO", object(ws), code, text.get())) : Ref();
    if (!result) core.log_failure(Origin::kConnectionLog);
}

}  // namespace uwserve
