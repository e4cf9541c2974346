// The GIL as the loop thread sees it: taken at the first Python call of an iteration, kept to its end, released around
// the wait and around topic fan-out. Everywhere else (calls from Python while the loop does not run) it is held already.
// One per server; loop thread only.
#pragma once

#include "py/interpreter/at_exit.h"
#include "py/interpreter/cycles.h"
#include "py/interpreter/ref.h"

namespace uwserve {

class LoopGil {
  public:
    void ensure() {
        if (!held_) [[unlikely]]
            take();
    }
    bool is_held() const { return held_; }
    // Whether it has been held long enough for Python code to have run an event loop of its own.
    bool is_held_long() const { return held_ && cycles() - since_ > kLongCycles; }
    void release() {
        if (held_) {
            held_ = false;
            saved_ = PyEval_SaveThread();
        }
    }

  private:
    void take() {
        guarded<PyEval_RestoreThread>(saved_);
        held_ = true;
        since_ = cycles();
    }
    bool held_ = true;
    uint64_t since_ = 0;
    PyThreadState *saved_ = nullptr;
};

// For something long that needs no Python, on any thread.
class ReleasedGil {
  public:
    ReleasedGil() = default;
    ~ReleasedGil() { guarded<PyEval_RestoreThread>(saved_); }
    ReleasedGil(const ReleasedGil &) = delete;
    ReleasedGil &operator=(const ReleasedGil &) = delete;

  private:
    PyThreadState *saved_ = PyEval_SaveThread();
};

}  // namespace uwserve
