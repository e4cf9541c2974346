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
    void release() {
        if (held_) {
            held_ = false;
            saved_ = PyEval_SaveThread();
        }
    }

  private:
    void take() {
        until_exit([this] { PyEval_RestoreThread(saved_); });
        held_ = true;
    }
    bool held_ = true;
    PyThreadState *saved_ = nullptr;
};

}  // namespace uwserve
