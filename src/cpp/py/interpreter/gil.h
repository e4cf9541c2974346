// The GIL of a loop's thread: acquired at the first Python call of an iteration, kept to its end, released around the
// wait and around topic fan-out. Outside of iterations (calls from Python while the loop does not run) the thread holds
// it already. One LoopGil for each server; loop thread only.
#pragma once

#include "py/interpreter/at_exit.h"
#include "py/interpreter/ref.h"
#include "uws/loop/clock.h"

namespace uwserve {

// A clock that costs an instruction: good enough to notice that something took long, not to measure it.
#if defined(__x86_64__)
inline uint64_t cycles() { return __builtin_ia32_rdtsc(); }
constexpr uint64_t kLongCycles = 1u << 17;  // 25 to 60 us
#else
inline uint64_t cycles() { return monotonic_ns(); }
constexpr uint64_t kLongCycles = 40'000;
#endif

class LoopGil {
  public:
    void ensure() {
        if (!held_) [[unlikely]]
            take();
    }
    bool is_held() const { return held_; }
    // Whether Python code can have run an event loop of its own since the GIL was acquired.
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

// Around long work that needs no Python, on any thread.
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
