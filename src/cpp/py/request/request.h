// Request: one HTTP request with its body, as `fetch` gets it. It shares the parsed head with the connection and owns
// the body, so it stays readable when the connection is gone. `conn` is set to NULL when the request is answered or the
// client leaves.
#pragma once

#include <atomic>
#include <memory>

#include "py/interpreter/objects.h"
#include "py/server/core.h"
#include "uws/websocket/handshake.h"

namespace uwserve {

struct RequestObject {
    PyObject_HEAD ServerCore *core;  // lives as long as core_object
    PyObject *core_object;
    HttpConnection *conn;  // NULL: answered, or the client left
    std::shared_ptr<HttpHead> head;
    RequestBody body;  // charged until this object is freed, also when `body_object` has the bytes
    PyObject *params;  // set by the router
    PyObject *headers;  // the facade's cache of `headers`
    PyObject *body_object;  // cache
    PyObject *tls;  // cache
    PyObject *context;  // interpreter/contexts.h; NULL for most
    ClientAddress client;
    bool deferred;
};

// Takes the body out of conn. NULL with an exception set.
RequestObject *new_request(ServerCore &core, HttpConnection &conn);
bool add_request_type(PyObject *module, ModuleState *state);

// True while a response can still be begun. With the GIL, on any thread: a connection is freed with the GIL held, so
// its socket is there.
inline bool is_open(const RequestObject *request) {
    return request->conn && !request->conn->responding && request->conn->response &&
           !std::atomic_ref(request->conn->s->closed).load(std::memory_order_relaxed);
}

// Around code that runs for a request (interpreter/contexts.h). The request outlives it.
class RequestScope {
  public:
    RequestScope(ServerCore &core, RequestObject *request)
        : contexts_(core.contexts),
          before_(core.contexts.request()),
          scope_((core.coroutines.leave_if_idle(), core.scope(&request->context))) {
        contexts_.set_request(request);
    }
    ~RequestScope() { contexts_.set_request(before_); }
    explicit operator bool() const { return static_cast<bool>(scope_); }

  private:
    Contexts &contexts_;
    RequestObject *before_;
    ContextScope scope_;
};

// The Context for a socket or a streamed body, which the request begins and which outlive its handler. None: the
// request has set no variable, or an exception is set.
Ref context_for(ServerCore &core, RequestObject *request, bool even_if_pristine);

}  // namespace uwserve
