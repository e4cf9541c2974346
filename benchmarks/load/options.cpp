#include "options.h"

#include <charconv>
#include <string_view>

namespace load {

const char *const kUsage =
    "usage: uwserve-load MODE --port PORT [options]\n"
    "\n"
    "modes\n"
    "  echo   every connection keeps DEPTH messages under way; each echo is verified and answered by the next message\n"
    "  hold   opens all connections and leaves them idle: handshakes a second, the server's memory for each\n"
    "  fair   one connection floods, another measures its echo's round trip\n"
    "\n"
    "options (default)\n"
    "  --host ADDRESS       IPv4 address (127.0.0.1)\n"
    "  --path PATH          request target (/)\n"
    "  --pid PID            the server's process, for its CPU time and memory\n"
    "  --connections N      (200)\n"
    "  --depth N            messages under way on each connection (1)\n"
    "  --size BYTES         payload of a message (20)\n"
    "  --type text|binary   (text)\n"
    "  --warmup SECONDS     (0.5)\n"
    "  --seconds SECONDS    measured (3)\n"
    "  --min-cpu SECONDS    echo: measure on, up to five times as long, until the server has used so much CPU (0)\n"
    "  --concurrency N      handshakes under way at a time (128)\n"
    "\n"
    "Prints one JSON object. Exit status: 0; 1 when the server or an echo was wrong; 2 for a wrong command line.\n";

namespace {

template <typename T>
T number(std::string_view name, std::string_view text, T low, T high) {
    T value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) {
        throw UsageError(std::string(name) + " takes a number from " + std::to_string(low) + " to " +
                         std::to_string(high) + ", not '" + std::string(text) + "'");
    }
    return value;
}

void set(Options &o, std::string_view name, std::string_view value) {
    if (name == "--host") {
        o.host = value;
    } else if (name == "--port") {
        o.port = number(name, value, 1, 65535);
    } else if (name == "--path") {
        o.path = value;
    } else if (name == "--pid") {
        o.pid = number(name, value, 1, 1 << 30);
    } else if (name == "--connections") {
        o.connections = number(name, value, 1, 1'000'000);
    } else if (name == "--depth") {
        o.depth = number(name, value, 1, 1 << 16);
    } else if (name == "--size") {
        o.size = number<size_t>(name, value, 0, size_t{1} << 28);
    } else if (name == "--type") {
        if (value != "text" && value != "binary") throw UsageError("--type takes text or binary");
        o.text = value == "text";
    } else if (name == "--warmup") {
        o.warmup = number(name, value, 0.0, 3600.0);
    } else if (name == "--seconds") {
        o.seconds = number(name, value, 0.01, 3600.0);
    } else if (name == "--min-cpu") {
        o.min_cpu = number(name, value, 0.0, 3600.0);
    } else if (name == "--concurrency") {
        o.concurrency = number(name, value, 1, 100'000);
    } else {
        throw UsageError("unknown option '" + std::string(name) + "'");
    }
}

}  // namespace

Options parse_options(int argc, char **argv) {
    if (argc < 2) throw UsageError("a mode is missing");
    Options options;
    options.mode = argv[1];
    if (options.mode != "echo" && options.mode != "hold" && options.mode != "fair") {
        throw UsageError("unknown mode '" + options.mode + "'");
    }
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 == argc) throw UsageError(std::string(argv[i]) + " needs a value");
        set(options, argv[i], argv[i + 1]);
    }
    if (!options.port) throw UsageError("--port is missing");
    return options;
}

}  // namespace load
