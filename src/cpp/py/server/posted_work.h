// Work that other threads, or code inside a callback, post to the loop's thread. It runs in order, at the top of a
// turn.
#pragma once

#include <functional>
#include <list>
#include <mutex>

#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;

class PostedWork {
  public:
    // A C++ function, or a call of a Python function, which the garbage collector visits.
    struct Work {
        std::function<void(ServerCore &)> function;
        Ref callable, arguments;
        Ref context;  // a copy of the caller's, unless its variables are those that handlers start from
    };

    explicit PostedWork(ServerCore &core) : core_(core) {}
    PostedWork(const PostedWork &) = delete;
    PostedWork &operator=(const PostedWork &) = delete;

    // Any thread, with the GIL, while the instance exists. Wakes the loop.
    void add(Work work);

    // --- the loop's thread ---
    // One round: work that is posted meanwhile waits for the next turn.
    void run();
    // Before the server decides that nothing is left to do: a function may post another one, or start a coroutine.
    void run_last();
    // The C++ functions, in order. Calls of Python functions keep their place: the server has promised to send nothing
    // for them, and they must not interrupt the caller's handler.
    void run_functions();

    int traverse(visitproc visit, void *arg) const;
    void clear();

  private:
    void take();
    bool is_empty();
    void run_one(Work work);
    void call(Work &work);

    ServerCore &core_;
    std::mutex mutex_;
    std::list<Work> posted_;  // changed with the mutex and the GIL, so the collector needs the GIL only
    std::list<Work> taken_;  // moved from posted_, and not run yet; loop thread
};

}  // namespace uwserve
