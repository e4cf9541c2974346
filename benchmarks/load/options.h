// The command line of uwserve-load.
#pragma once

#include <stdexcept>
#include <string>

namespace load {

struct Options {
    std::string mode;
    std::string host = "127.0.0.1";
    int port = 0;
    std::string path = "/";
    int pid = 0;  // the server's process, 0: nothing about it is reported
    bool tls = false;
    bool deflate = false;
    int threads = 1;
    int connections = 200;
    int depth = 1;
    size_t size = 20;
    bool text = true;
    int subscribers = 100, publishers = 1, batch = 10, topics = 1;
    int slow = 1;  // slow subscribers
    size_t rate = 65536;  // that each of them reads, bytes a second
    double warmup = 0.5;   // seconds before anything is counted
    double seconds = 3;    // seconds that are counted
    double min_cpu = 0;  // count on, up to five times as long, until the server has used so many seconds of CPU
    int concurrency = 128;  // handshakes under way at a time
};

// Shown with the usage; exit status 2.
struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

extern const char *const kUsage;

Options parse_options(int argc, char **argv);

}  // namespace load
