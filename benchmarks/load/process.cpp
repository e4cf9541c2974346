#include "process.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>

namespace load {

namespace {

std::string proc(int pid, const char *name) { return "/proc/" + std::to_string(pid) + "/" + name; }

[[noreturn]] void fail(const std::string &path) {
    throw std::runtime_error(path + ": " + strerror(errno) + " (has the server ended?)");
}

// The second figure of each thread's schedstat, nanoseconds. 0 where the kernel does not keep it.
double waited_of(int pid) {
    double sum = 0;
    std::error_code ignored;
    for (const auto &thread : std::filesystem::directory_iterator(proc(pid, "task"), ignored)) {
        std::ifstream file(thread.path() / "schedstat");
        double ran = 0, waited = 0;
        if (file >> ran >> waited) sum += waited * 1e-9;
    }
    return sum;
}

}  // namespace

CpuTime cpu_of(int pid) {
    std::string path = proc(pid, "stat"), line;
    std::ifstream file(path);
    if (!std::getline(file, line)) fail(path);
    // Fields follow the name, which is in parentheses and may hold anything: see proc_pid_stat(5).
    std::istringstream fields(line.substr(line.rfind(')') + 2));
    std::string skipped;
    for (int field = 3; field < 14; field++) fields >> skipped;
    uint64_t user = 0, system = 0;
    if (!(fields >> user >> system)) fail(path);
    double tick = static_cast<double>(sysconf(_SC_CLK_TCK));
    return {static_cast<double>(user) / tick, static_cast<double>(system) / tick, waited_of(pid)};
}

Memory memory_of(int pid) {
    std::string path = proc(pid, "smaps_rollup"), line;
    std::ifstream file(path);
    if (!std::getline(file, line)) fail(path);
    Memory memory;
    while (std::getline(file, line)) {
        std::istringstream fields(line);
        std::string name;
        int64_t kib = 0;
        fields >> name >> kib;
        if (name == "Rss:") memory.rss = kib * 1024;
        if (name == "Pss:") memory.pss = kib * 1024;
        if (name == "Anonymous:") memory.anonymous = kib * 1024;
    }
    return memory;
}

uint64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

double now() { return static_cast<double>(now_ns()) * 1e-9; }

void raise_fd_limit(int descriptors) {
    rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    auto wanted = static_cast<rlim_t>(descriptors);
    if (limit.rlim_cur >= wanted) return;
    if (limit.rlim_max < wanted) {
        throw std::runtime_error(std::to_string(descriptors) + " descriptors are needed, the hard limit is " +
                                 std::to_string(limit.rlim_max));
    }
    limit.rlim_cur = wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace load
