// hold: opens all connections and leaves them idle. What the server's user memory grew by, divided by their number, is
// what one costs. One connection is opened before the first reading, so that code which a first connection loads or
// allocates once is not counted. The server must be a fresh process.
#include <deque>
#include <stdexcept>

#include "client.h"
#include "modes.h"

namespace load {

namespace {

constexpr double kSettleSeconds = 0.5;

void settle(Loop &loop, double seconds) {
    double end = now() + seconds;
    for (double left = end - now(); left > 0; left = end - now()) loop.turn(left);
}

double each(int64_t before, int64_t after, int count) { return static_cast<double>(after - before) / count; }

}  // namespace

Report run_hold(const Options &options) {
    if (!options.pid) throw UsageError("hold needs --pid");
    raise_fd_limit(options.connections + 64);
    Loop loop;
    Client first(loop, options, 0);
    open_all(loop, {&first}, 1);
    settle(loop, kSettleSeconds);
    Memory before = memory_of(options.pid);
    CpuTime cpu_before = cpu_of(options.pid);

    std::deque<Client> clients;
    std::vector<Client *> all;
    for (int i = 1; i <= options.connections; i++)
        all.push_back(&clients.emplace_back(loop, options, static_cast<uint32_t>(i)));
    double seconds = open_all(loop, all, options.concurrency);
    CpuTime cpu_after = cpu_of(options.pid);
    settle(loop, kSettleSeconds);
    Memory opened = memory_of(options.pid);
    settle(loop, options.seconds);
    Memory held = memory_of(options.pid);
    for (Client &client : clients) client.abort();
    first.abort();

    int n = options.connections;
    Report report;
    report.add("connections", n);
    report.add("seconds_to_open", seconds);
    report.add("handshakes_per_second", n / seconds);
    report.add_cpu("server_cpu", cpu_before, cpu_after, static_cast<uint64_t>(n), seconds);
    report.add("rss_bytes_each", each(before.rss, held.rss, n));
    report.add("pss_bytes_each", each(before.pss, held.pss, n));
    report.add("anonymous_bytes_each", each(before.anonymous, held.anonymous, n));
    report.add("rss_bytes_each_when_opened", each(before.rss, opened.rss, n));
    report.add("rss_bytes_before", before.rss);
    return report;
}

}  // namespace load
