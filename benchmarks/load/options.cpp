#include "options.h"

#include <charconv>
#include <string_view>

#include "modes/modes.h"

namespace load {

const char *const kUsage =
    "usage: uwserve-load MODE --port PORT [options]\n"
    "\n"
    "modes\n"
    "  echo    every connection keeps DEPTH messages under way; each echo is verified and answered by the next "
    "message\n"
    "  fanout  publishers (/pub/0, /pub/1, ...) send batches; the next one when all subscribers (/sub/0, ...) of the\n"
    "          topic have got the last one, verified, and each publisher's messages in order\n"
    "  storm   connections are opened, send one message, verify its echo and are closed cleanly, as fast as they can "
    "be\n"
    "  hold    opens all connections and leaves them idle: handshakes a second, the server's memory for each\n"
    "  slow    fanout, first alone, then beside slow subscribers of the topic that read RATE bytes a second\n"
    "  fair    one connection floods, another measures its echo's round trip\n"
    "\n"
    "options (default)\n"
    "  --host ADDRESS       IPv4 address (127.0.0.1)\n"
    "  --path PATH          request target of all but fanout and slow (/)\n"
    "  --pid PID            the server's process, for its CPU time and memory\n"
    "  --tls                wss: TLS 1.3, AES-128-GCM, full handshakes, certificates are not verified\n"
    "  --deflate            echo: permessage-deflate without context takeover; JSON-like text\n"
    "  --threads N          of the generator, all modes but fair and slow (1)\n"
    "  --connections N      echo, hold (200)\n"
    "  --depth N            echo: messages under way on each connection (1)\n"
    "  --subscribers N      fanout, slow (100)\n"
    "  --publishers N       fanout, slow (1)\n"
    "  --batch N            messages that a publisher sends at a time (10)\n"
    "  --topics N           fanout: publisher and subscriber number I use topic I modulo N (1)\n"
    "  --slow N             slow: slow subscribers (1)\n"
    "  --rate BYTES         slow: what each of them reads in a second (65536)\n"
    "  --size BYTES         payload of a message; fanout and slow take 16 or more (20)\n"
    "  --type text|binary   (text)\n"
    "  --warmup SECONDS     (0.5)\n"
    "  --seconds SECONDS    measured (3)\n"
    "  --min-cpu SECONDS    measure on, up to five times as long, until the server has used so much CPU (0)\n"
    "  --concurrency N      handshakes, or connections of a storm, under way at a time (128)\n"
    "\n"
    "Prints one JSON object. Exit status: 0; 1 when the server did something wrong; 2 for a wrong command line.\n";

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

struct Count {
    const char *name;
    int Options::*member;
    int low, high;
};
constexpr Count kCounts[] = {
    {"--port", &Options::port, 1, 65535},
    {"--pid", &Options::pid, 1, 1 << 30},
    {"--threads", &Options::threads, 1, 64},
    {"--connections", &Options::connections, 1, 1'000'000},
    {"--depth", &Options::depth, 1, 1 << 16},
    {"--subscribers", &Options::subscribers, 1, 1'000'000},
    {"--publishers", &Options::publishers, 1, 10'000},
    {"--batch", &Options::batch, 1, 1 << 20},
    {"--topics", &Options::topics, 1, 1'000'000},
    {"--slow", &Options::slow, 1, 10'000},
    {"--concurrency", &Options::concurrency, 1, 100'000},
};

struct Duration {
    const char *name;
    double Options::*member;
    double low;
};
constexpr Duration kDurations[] = {
    {"--warmup", &Options::warmup, 0.0},
    {"--seconds", &Options::seconds, 0.01},
    {"--min-cpu", &Options::min_cpu, 0.0},
};

void set(Options &o, std::string_view name, std::string_view value) {
    for (const Count &count : kCounts) {
        if (name != count.name) continue;
        o.*count.member = number(name, value, count.low, count.high);
        return;
    }
    for (const Duration &duration : kDurations) {
        if (name != duration.name) continue;
        o.*duration.member = number(name, value, duration.low, 3600.0);
        return;
    }
    if (name == "--host") {
        o.host = value;
    } else if (name == "--path") {
        o.path = value;
    } else if (name == "--size") {
        o.size = number<size_t>(name, value, 0, size_t{1} << 28);
    } else if (name == "--rate") {
        o.rate = number<size_t>(name, value, 1000, size_t{1} << 30);
    } else if (name == "--type") {
        if (value != "text" && value != "binary") throw UsageError("--type takes text or binary");
        o.text = value == "text";
    } else {
        throw UsageError("unknown option '" + std::string(name) + "'");
    }
}

void check(const Options &o) {
    if (!o.port) throw UsageError("--port is missing");
    bool publishes = o.mode == "fanout" || o.mode == "slow";
    if (publishes && o.size < 16) throw UsageError("--size is at least 16 for " + o.mode);
    if (o.deflate && o.mode != "echo") throw UsageError("--deflate is for echo");
    if (o.deflate && !o.size) throw UsageError("--deflate needs a --size");
    if (o.threads > 1 && (o.mode == "fair" || o.mode == "slow")) throw UsageError(o.mode + " takes no --threads");
    if (o.mode == "hold" && !o.pid) throw UsageError("hold needs --pid");
    if (o.mode == "slow" && o.topics > 1) throw UsageError("slow takes no --topics");
    if (o.mode == "fanout" && o.topics > o.subscribers) throw UsageError("more topics than subscribers");
}

}  // namespace

Options parse_options(int argc, char **argv) {
    if (argc < 2) throw UsageError("a mode is missing");
    Options options;
    options.mode = argv[1];
    bool known = false;
    for (const Mode &mode : kModes) known |= options.mode == mode.name;
    if (!known) throw UsageError("unknown mode '" + options.mode + "'");
    for (int i = 2; i < argc; i++) {
        std::string_view name = argv[i];
        if (name == "--tls") {
            options.tls = true;
        } else if (name == "--deflate") {
            options.deflate = true;
        } else if (++i == argc) {
            throw UsageError(std::string(name) + " needs a value");
        } else {
            set(options, name, argv[i]);
        }
    }
    check(options);
    return options;
}

}  // namespace load
