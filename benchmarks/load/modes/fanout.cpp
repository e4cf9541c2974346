// fanout: publishers send batches, subscribers verify each message and each publisher's order. The next batch of a
// publisher is sent when all subscribers of its topic have got the last one, so that no server has to drop anything.
#include <deque>
#include <memory>
#include <vector>

#include "modes/modes.h"
#include "topic.h"

namespace load {

namespace {

// Servers that subscribe a connection after they have answered its handshake get time for it.
constexpr double kSettleSeconds = 0.1;

struct alignas(64) Deliveries {
    uint64_t count = 0;
};

std::vector<int> audience(const Options &options) {
    std::vector<int> subscribers(static_cast<size_t>(options.topics));
    for (int i = 0; i < options.subscribers; i++) subscribers[static_cast<size_t>(i % options.topics)]++;
    return subscribers;
}

}  // namespace

Report run_fanout(const Options &options) {
    raise_fd_limit(options.subscribers + options.publishers + 64);
    Crew crew(options);
    MessageShape shape(options.size, options.text);
    Board board(options, audience(options));
    std::vector<Deliveries> deliveries(static_cast<size_t>(crew.members()));
    Histogram latency;
    Measured measured;
    crew.run([&](int member) {
        Loop loop(options);
        std::deque<FastSubscriber> subscribers;
        std::vector<Client *> all;
        int end = crew.first(options.subscribers, member + 1);
        for (int i = crew.first(options.subscribers, member); i < end; i++) {
            all.push_back(&subscribers.emplace_back(loop, options, static_cast<uint32_t>(i), shape, board, crew,
                                                    deliveries[static_cast<size_t>(member)].count));
        }
        std::unique_ptr<Publishing> publishing;
        if (member == 0) {
            publishing = std::make_unique<Publishing>(loop, options, shape, board);
            for (Client *client : publishing->clients()) all.push_back(client);
        }
        open_all(loop, all, options.concurrency);
        loop.run_until(now() + kSettleSeconds);
        crew.meet();
        if (publishing) {
            publishing->begin();
            measured =
                crew.measure(loop, member, [&] { publishing->go_on(crew.is_counting() ? &latency : nullptr, true); });
            publishing->finish(loop, crew);
            board.close();
        } else {
            while (!board.is_closed()) {
                crew.throw_if_failed();
                loop.turn(0.05);
            }
        }
        loop.run_until(now() + kSettleSeconds);  // for what a server sends twice
        for (Client *client : all) client->abort();
    });

    uint64_t count = 0;
    for (const Deliveries &of_member : deliveries) count += of_member.count;
    Report report;
    measured.report(report, options, "deliveries", count);
    report.add_latency("latency_us", latency);
    return report;
}

}  // namespace load
