// hold: opens all connections and leaves them idle. What the server's user memory grew by, divided by their number, is
// what one costs. One connection is opened before the first reading, so that code which a first connection loads or
// allocates once is not counted. The server must be a fresh process.
#include <unistd.h>

#include <deque>

#include "crew.h"
#include "modes/modes.h"

namespace load {

namespace {

constexpr double kSettleSeconds = 0.5;

double each(int64_t before, int64_t after, int count) { return static_cast<double>(after - before) / count; }

// What member 0 reads.
struct Readings {
    Memory before, opened, held;
    CpuTime cpu_before, cpu_after, own_before, own_after;
    double seconds = 0;
};

}  // namespace

Report run_hold(const Options &options) {
    raise_fd_limit(options.connections + 64);
    Crew crew(options);
    Readings r;
    crew.run([&](int member) {
        Loop loop(options);
        Client first(loop, options, 0);
        std::deque<Client> clients;
        std::vector<Client *> all;
        int end = crew.first(options.connections, member + 1);
        for (int i = crew.first(options.connections, member); i < end; i++)
            all.push_back(&clients.emplace_back(loop, options, static_cast<uint32_t>(i + 1)));
        if (member == 0) {
            open_all(loop, {&first}, 1);
            loop.run_until(now() + kSettleSeconds);
            r.before = memory_of(options.pid);
            r.cpu_before = cpu_of(options.pid);
            r.own_before = cpu_of(getpid());
        }
        crew.meet();
        double start = now();
        open_all(loop, all, options.concurrency);
        crew.meet();
        if (member == 0) {
            r.seconds = now() - start;
            r.cpu_after = cpu_of(options.pid);
            r.own_after = cpu_of(getpid());
            loop.run_until(now() + kSettleSeconds);
            r.opened = memory_of(options.pid);
            loop.run_until(now() + options.seconds);
            r.held = memory_of(options.pid);
            crew.end();
        }
        while (!crew.is_ending()) loop.turn(0.05);
        for (Client *client : all) client->abort();
        first.abort();
    });

    int n = options.connections;
    Report report;
    report.add("connections", n);
    report.add("seconds_to_open", r.seconds);
    report.add("handshakes_per_second", n / r.seconds);
    report.add_cpu("server_cpu", r.cpu_before, r.cpu_after, static_cast<uint64_t>(n), r.seconds);
    report.add_cpu("load_cpu", r.own_before, r.own_after, static_cast<uint64_t>(n), r.seconds);
    report.add("rss_bytes_each", each(r.before.rss, r.held.rss, n));
    report.add("pss_bytes_each", each(r.before.pss, r.held.pss, n));
    report.add("anonymous_bytes_each", each(r.before.anonymous, r.held.anonymous, n));
    report.add("rss_bytes_each_when_opened", each(r.before.rss, r.opened.rss, n));
    report.add("rss_bytes_before", r.before.rss);
    return report;
}

}  // namespace load
