// What the kernel says about a process: CPU time, and memory of user space.
#pragma once

#include <cstdint>

namespace load {

// Of all its threads, exited ones included. The kernel's split between the two is sampled: it needs seconds to be right.
struct CpuTime {
    double user = 0, system = 0;  // seconds
    double waited = 0;  // for a core while ready to run, by the threads that are alive
};
CpuTime cpu_of(int pid);

// From smaps_rollup, in bytes. Kernel memory (socket buffers, epoll items) is in none of them.
struct Memory {
    int64_t rss = 0, pss = 0, anonymous = 0;
};
Memory memory_of(int pid);

double now();  // seconds, monotonic
uint64_t now_ns();  // the same in nanoseconds
void raise_fd_limit(int descriptors);  // throws when the hard limit is below

}  // namespace load
