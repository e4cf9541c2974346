// The GIL as the loop thread sees it: taken at the first Python call of an iteration, kept to its end, released around
// the wait and around topic fan-out. Everywhere else (calls from Python while the loop does not run) it is held already.
// One per server; loop thread only.
#pragma once

#include "at_exit.h"
#include "ref.h"

namespace uwserve {

class LoopGil {
  public:
    void ensure() {
        if (!held_) [[unlikely]]
            take();
    }
    bool is_held() const { return held_; }
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
    }
    bool held_ = true;
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
