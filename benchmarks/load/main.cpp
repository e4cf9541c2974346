// uwserve-load: drives a WebSocket server and measures it. See --help, and ../README.md for the method.
#include <cstdio>
#include <cstring>
#include <exception>

#include "modes.h"

namespace {

load::Report run(const load::Options &options) {
    if (options.mode == "echo") return load::run_echo(options);
    if (options.mode == "hold") return load::run_hold(options);
    return load::run_fair(options);
}

load::Report describe(const load::Options &options) {
    load::Report report;
    report.add("mode", options.mode);
    report.add("connections", options.mode == "fair" ? 2 : options.connections);
    report.add("depth", options.depth);
    report.add("size", options.size);
    report.add("type", options.text ? "text" : "binary");
    report.add("warmup", options.warmup);
    report.add("seconds", options.seconds);
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
