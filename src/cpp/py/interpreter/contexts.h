// Context variables (contextvars) of handlers: a variable that one connection's handler sets is invisible to all
// others.
//
// A connection gets its own Context when one of its plain handlers first changes a variable. Until then its handlers
// run in one Context that all connections share, a copy of the one in which run(), start() or serve_forever() was
// called (the *base*). A Context holds its variables in an immutable map, so each change makes another map, and one
// pointer comparison after each handler shows whether the shared Context has changed. A changed Context becomes that
// connection's own, with all tokens that were made in it, and a fresh copy of the base serves the others. A
// connection's own Context is entered around each of its handlers.
//
// A *slot* is the place where the owner keeps its Context, NULL for none. Owners are a ServerWebSocket, a Request (for
// itself and not for its connection, which may be a proxy's and carry the requests of many clients) and a streamed
// body. A socket begins with the variables of the request that was upgraded. Coroutines run in a copy of their
// connection's Context, as Tasks do, and their changes stay in that copy.
//
// The shared Context is entered while the loop turns, on its thread: all user code that runs there runs inside a
// ContextScope, or in a Context of its own. A handler inside a handler (close(), inside another socket's) enters its
// own Context or a fresh one, because it must not see the Context in use. A Context is freed with its owner. GIL.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;
struct RequestObject;

// The map that holds a Context's variables: they are unchanged while this object is the same. NULL: unknown.
PyObject *variables_of(PyObject *context);

// The context that a Task runs in; a borrowed reference, or NULL. (Task(context=...) begins with Python 3.11.)
PyObject *context_of(PyObject *task);

class Contexts {
  public:
    Contexts() = default;
    Contexts(const Contexts &) = delete;
    Contexts &operator=(const Contexts &) = delete;

    // From now on, handlers start from the variables of the current Context. False with an exception set.
    bool set_base();
    // The base, borrowed; the current Context if none was set. NULL with an exception set.
    PyObject *base();

    // Around the turns of a loop, on its thread. False with an exception set.
    [[gnu::always_inline]] bool begin() {
        if (user_ != &outside_ || !watched_) [[unlikely]]
            return begin_slowly();
        if (PyContext_Enter(shared_.get()) != 0) return false;
        user_ = nullptr;
        has_begun_ = true;
        return true;
    }
    [[gnu::always_inline]] void end() {
        if (user_ || has_before_ || *watched_ != pristine_ || PyContext_Exit(shared_.get()) != 0) [[unlikely]]
            return end_slowly();
        user_ = &outside_;
        has_begun_ = false;
    }

    // A handler runs in a slot, or the loop is not turning.
    bool is_in_use() const { return user_ != nullptr; }
    bool is_running(PyObject *const *slot) const { return user_ == slot; }
    // A copy of the current Context if its variables differ from the base's. None: they do not, or an exception is set.
    Ref changed_copy();
    // The handler's own Context, for work of the slot's owner that continues after the handler. None: there is none, or
    // an exception is set.
    Ref of_running(PyObject **slot, bool even_if_pristine);
    // Python code other than a handler has run in the shared Context: its changes are discarded.
    void discard_changes();

    // While a coroutine is stepped, no slot's handler runs.
    struct Saved {
        PyObject **user;
        PyObject *current;
        RequestObject *request;
    };
    Saved put_aside(RequestObject *request) {
        Saved saved{user_, current_, request_};
        user_ = &outside_;
        current_ = nullptr;
        request_ = request;
        return saved;
    }
    void put_back(const Saved &saved) {
        user_ = saved.user;
        current_ = saved.current;
        request_ = saved.request;
    }
    class Aside {
      public:
        Aside(Contexts &contexts, RequestObject *request) : contexts_(contexts), saved_(contexts.put_aside(request)) {}
        ~Aside() { contexts_.put_back(saved_); }
        Aside(const Aside &) = delete;
        Aside &operator=(const Aside &) = delete;

      private:
        Contexts &contexts_;
        Saved saved_;
    };
    // The request whose handler, or coroutine, runs now; borrowed, or NULL.
    RequestObject *request() const { return request_; }
    void set_request(RequestObject *request) { request_ = request; }

    bool is_changed(PyObject *context) const { return variables(context) != pristine_; }
    PyObject *variables(PyObject *context) const {
        return variables_at_ ? reinterpret_cast<PyObject *const *>(context)[variables_at_] : variables_of(context);
    }

    int traverse(visitproc visit, void *arg);
    void clear();

  private:
    friend class ContextScope;
    // A Context that was entered for one handler, or none if the handler runs inside another handler of its owner.
    struct Entered {
        PyObject **slot;
        Ref context;
        Saved before;
    };
    Entered *enter(PyObject **slot);
    void exit(Entered *entered);
    bool begin_slowly();
    void end_slowly();
    void settle(PyObject **slot);
    bool enter_shared();

    Ref base_, shared_;
    PyObject *pristine_ = nullptr;  // the base's variables
    PyObject *const *watched_ = nullptr;  // where the entered shared Context has its variables
    size_t variables_at_ = 0;  // in a Context, in pointers; 0: not known
    PyObject *outside_ = nullptr;  // a slot without an owner
    PyObject **user_ = &outside_;  // of the handler that runs; NULL: none, and the shared Context is entered
    PyObject *current_ = nullptr;  // the Context that was entered for it; borrowed
    RequestObject *request_ = nullptr;
    Saved before_{};  // begin(), when it was inside a handler
    bool has_before_ = false;
    bool has_begun_ = false;
};

// A handler's call, including the handling of its failure. The slot outlives it. In the common case this is two stores
// and four compares.
class ContextScope {
  public:
    [[gnu::always_inline]] ContextScope(Contexts &contexts, PyObject **slot, bool is_stepping)
        : contexts_(contexts), slot_(slot) {
        if (!contexts.user_ && !*slot && !is_stepping) [[likely]] {
            contexts.user_ = slot;
        } else {
            slot_ = nullptr;
            entered_ = contexts.enter(slot);
        }
    }
    [[gnu::always_inline]] ~ContextScope() { close(); }
    ContextScope(const ContextScope &) = delete;
    ContextScope &operator=(const ContextScope &) = delete;

    // False: there is no Context to run it in, and MemoryError is set.
    explicit operator bool() const { return slot_ || entered_; }

    // Before the end of the block.
    [[gnu::always_inline]] void close() {
        if (PyObject **slot = slot_) [[likely]] {
            slot_ = nullptr;
            contexts_.user_ = nullptr;
            if (*contexts_.watched_ != contexts_.pristine_) [[unlikely]]
                contexts_.settle(slot);
        } else if (entered_) {
            contexts_.exit(std::exchange(entered_, nullptr));
        }
    }

  private:
    Contexts &contexts_;
    PyObject **slot_;  // while the shared Context is its owner's
    Contexts::Entered *entered_ = nullptr;
};

}  // namespace uwserve
