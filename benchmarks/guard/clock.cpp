// A monotonic clock for the guard, put before libc's (LD_PRELOAD): each look at it takes one microsecond, and nothing else
// does. So whatever goes by time, as the size of the next read does, goes the same way in every run.
#include <errno.h>
#include <stdint.h>
#include <time.h>

extern "C" int clock_gettime(clockid_t clock, timespec *now) noexcept {
    static uint64_t looks = 0;  // the workload has one thread
    if (!now) {
        errno = EFAULT;
        return -1;
    }
    const uint64_t start = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? 1'700'000'000 : 1'000;
    looks++;
    now->tv_sec = static_cast<time_t>(start + looks / 1'000'000);
    now->tv_nsec = static_cast<long>(looks % 1'000'000) * 1000;
    return 0;
}
