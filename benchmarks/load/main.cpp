// uwserve-load: drives a WebSocket server and measures it. See --help, and ../README.md for the method.
#include <cstdio>
#include <cstring>
#include <exception>

#include "modes/modes.h"

namespace {

load::Report run(const load::Options &options) {
    for (const load::Mode &mode : load::kModes) {
        if (options.mode == mode.name) return mode.run(options);
    }
    throw load::UsageError("unknown mode");
}

// What was asked for, as far as it concerns the mode.
load::Report describe(const load::Options &o) {
    bool publishes = o.mode == "fanout" || o.mode == "slow";
    load::Report report;
    report.add("mode", o.mode);
    report.add("tls", o.tls ? "yes" : "no");
    report.add("threads", o.mode == "fair" ? 2 : o.threads);
    if (publishes) {
        report.add("subscribers", o.subscribers);
        report.add("publishers", o.publishers);
        report.add("batch", o.batch);
        if (o.mode == "fanout") report.add("topics", o.topics);
    } else {
        report.add("connections", o.mode == "fair" ? 2 : o.mode == "storm" ? o.concurrency : o.connections);
    }
    if (o.mode == "slow") {
        report.add("slow", o.slow);
        report.add("rate", o.rate);
    }
    if (o.mode == "echo") {
        report.add("depth", o.depth);
        report.add("deflate", o.deflate ? "yes" : "no");
    }
    if (o.mode != "hold") {
        report.add("size", o.size);
        report.add("type", o.text ? "text" : "binary");
        report.add("warmup", o.warmup);
    }
    report.add("seconds", o.seconds);
    return report;
}

}  // namespace

int main(int argc, char **argv) {
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        fputs(load::kUsage, stdout);
        return 0;
    }
    try {
        load::Options options = load::parse_options(argc, argv);
        load::Report report;
        report.add("options", describe(options));
        report.add("result", run(options));
        report.print();
        return 0;
    } catch (const load::UsageError &error) {
        fprintf(stderr, "uwserve-load: %s\n\n%s", error.what(), load::kUsage);
        return 2;
    } catch (const std::exception &error) {
        fprintf(stderr, "uwserve-load: %s\n", error.what());
        return 1;
    }
}
