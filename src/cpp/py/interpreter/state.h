// The module's state: its types, the servers of this process, and a count of live handles for leak tests. GIL.
#pragma once

#include <vector>

#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;

// Our objects may be chained through their attributes, thousands deep, and freeing an object then frees the next one
// inside it. Past a depth, objects wait here until the outermost is freed. (CPython's trashcan does not know the size
// of a thread's stack.)
class Deallocations {
  public:
    // Calls free_object(object), now or soon. The collector must not track the object any more.
    void run(PyObject *object, void (*free_object)(PyObject *)) {
        if (depth_ >= kMaxDepth) {
            waiting_.push_back({object, free_object});
            return;
        }
        depth_++;
        free_object(object);
        while (depth_ == 1 && !waiting_.empty()) {
            auto [next, free_next] = waiting_.back();
            waiting_.pop_back();
            free_next(next);
        }
        depth_--;
    }

  private:
    static constexpr int kMaxDepth = 50;
    struct Waiting {
        PyObject *object;
        void (*free_object)(PyObject *);
    };
    int depth_ = 0;
    std::vector<Waiting> waiting_;
};

struct ModuleState {
    PyTypeObject *websocket_type = nullptr;
    PyTypeObject *request_type = nullptr;
    PyTypeObject *view_owner_type = nullptr;
    PyTypeObject *driver_type = nullptr, *loop_reader_type = nullptr, *probe_type = nullptr;
    PyTypeObject *messages_type = nullptr, *messages_wait_type = nullptr;
    PyTypeObject *socket_address_type = nullptr;
    Py_ssize_t live_handles = 0;
    std::vector<ServerCore *> servers;
    Deallocations deallocations;
};

}  // namespace uwserve
