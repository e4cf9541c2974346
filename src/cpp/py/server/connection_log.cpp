#include "py/server/connection_log.h"

#include "py/websocket/object.h"

namespace uwserve {

// Whatever a hook of the logger raises (its filters are users' code) is logged like any failure, and changes nothing
// else.
Ref ConnectionLog::call(ServerCore &core, const Ref &hook, Ref arguments) {
    Ref result;
    if (arguments) {
        core.coroutines.leave_if_idle();
        Ref keep = Ref::borrow(hook.get());
        result = Ref::steal(guarded<PyObject_CallObject>(keep.get(), arguments.get()));
    }
    if (!result) core.log_failure(Origin::kConnectionLog);
    return result;
}

void ConnectionLog::ask(ServerCore &core, uint32_t now) {
    asked_at_ = now;
    wanted_ = false;
    if (is_wanted) wanted_ = call(core, is_wanted, Ref::steal(guarded<PyTuple_New>(0))).get() == Py_True;
}

void ConnectionLog::log_open(ServerCore &core, WsObject *ws) {
    call(core, opened, Ref::steal(guarded<Py_BuildValue>("(O)", ws)));
}

void ConnectionLog::log_close(ServerCore &core, WsObject *ws, int code, std::string_view reason) {
    Ref text = Ref::steal(make_utf8(reason, "replace"));
    call(core, closed, text ? Ref::steal(guarded<Py_BuildValue>("(OiO)", ws, code, text.get())) : Ref());
}

}  // namespace uwserve
