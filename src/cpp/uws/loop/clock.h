// The clock of all timers and timeouts.
#pragma once

#include "usockets/loop/timer.h"

namespace uwserve {

inline uint64_t monotonic_ns() { return us_monotonic_ns(); }  // any thread

}  // namespace uwserve
