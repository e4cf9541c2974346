// What the module owns: its types, the servers of this process, and a count of live handles for leak tests.
// Made once at import, kept alive by the module. Guarded by the GIL.
#pragma once

#include <vector>

#include "py/interpreter/ref.h"

namespace uwserve {

class ServerCore;

// Objects of ours may be chained through their attributes, thousands deep, and freeing one then frees the next inside it.
// Past a depth they wait here for the outermost. (CPython's trashcan does not know the size of a thread's stack.)
class Deallocations {
  public:
    // Calls free_object(object), now or soon. The object must be out of the collector's hands.
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
