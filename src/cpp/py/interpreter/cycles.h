// A clock that costs an instruction: good enough to see that something took long, not to measure it.
#pragma once

#include <cstdint>

#include "usockets/loop/timer.h"

namespace uwserve {

#if defined(__x86_64__)
inline uint64_t cycles() { return __builtin_ia32_rdtsc(); }
constexpr uint64_t kLongCycles = 1u << 17;  // 25 to 60 us
#else
inline uint64_t cycles() { return us_monotonic_ns(); }
constexpr uint64_t kLongCycles = 40'000;
#endif

}  // namespace uwserve
