// echo: closed loop. Each connection has `depth` messages under way; every echo is compared byte by byte, its latency is
// recorded and the next message is sent. Messages of one read are answered in one send.
#include <unistd.h>

#include <deque>
#include <memory>
#include <stdexcept>

#include "client.h"
#include "modes.h"

namespace load {

namespace {

constexpr double kPatience = 5;
constexpr double kDrainSeconds = 10;

struct Counters {
    Histogram latency;
    uint64_t messages = 0;
    bool counting = false;
    bool ending = false;  // nothing new is sent
};

class EchoClient final : public Client {
  public:
    EchoClient(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Counters &counters)
        : Client(loop, options, index),
          shape_(shape),
          counters_(counters),
          sent_at_(static_cast<size_t>(options.depth)) {}

    void begin() {
        for (size_t i = 0; i < sent_at_.size(); i++) send_next(now_ns());
        flush();
    }

    uint32_t missing() const { return sent_ - received_; }

  private:
    void send_next(uint64_t when) {
        shape_.append(out(), index(), sent_);
        sent_at_[sent_++ % sent_at_.size()] = when;
    }

    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches(index(), received_, offset, data))
            fail("echo " + std::to_string(received_) + " is not what was sent");
    }

    void on_message(Opcode opcode, size_t size) override {
        if (opcode != shape_.opcode() || size != shape_.size())
            fail("echo " + std::to_string(received_) + " has another type or size");
        if (received_ == sent_) fail("a message came that was not asked for");
        uint64_t when = now_ns();
        if (counters_.counting) {
            counters_.latency.add(when - sent_at_[received_ % sent_at_.size()]);
            counters_.messages++;
        }
        received_++;
        if (!counters_.ending) send_next(when);
    }

    const MessageShape &shape_;
    Counters &counters_;
    std::vector<uint64_t> sent_at_;  // a ring by message number
    uint32_t sent_ = 0, received_ = 0;
};

double used_since(const CpuTime &before, int pid) {
    CpuTime after = cpu_of(pid);
    return after.user - before.user + after.system - before.system;
}

void run_until(Loop &loop, double end) {
    for (double left = end - now(); left > 0; left = end - now()) loop.turn(left);
}

// Everything that was sent must come back, or a server that loses a message would merely look slow.
void drain(Loop &loop, const std::deque<EchoClient> &clients) {
    double end = now() + kDrainSeconds;
    for (const EchoClient &client : clients) {
        while (client.missing()) {
            if (now() > end)
                throw std::runtime_error("connection " + std::to_string(client.index()) + ": echoes are missing");
            loop.turn(0.1);
        }
    }
}

}  // namespace

Report run_echo(const Options &options) {
    raise_fd_limit(options.connections + 64);
    Loop loop;
    MessageShape shape(options.size, options.text);
    auto counters = std::make_unique<Counters>();
    std::deque<EchoClient> clients;
    std::vector<Client *> all;
    for (int i = 0; i < options.connections; i++) {
        all.push_back(&clients.emplace_back(loop, options, static_cast<uint32_t>(i), shape, *counters));
    }
    open_all(loop, all, options.concurrency);
    for (EchoClient &client : clients) client.begin();
    run_until(loop, now() + options.warmup);

    CpuTime server_before = options.pid ? cpu_of(options.pid) : CpuTime(), own_before = cpu_of(getpid());
    double start = now();
    counters->counting = true;
    run_until(loop, start + options.seconds);
    // The kernel samples the split of CPU time at its tick: on a busy machine a few seconds of wall time say little.
    while (options.pid && now() < start + kPatience * options.seconds &&
           used_since(server_before, options.pid) < options.min_cpu) {
        run_until(loop, now() + 0.1);
    }
    counters->counting = false;
    double seconds = now() - start;
    CpuTime server_after = options.pid ? cpu_of(options.pid) : CpuTime(), own_after = cpu_of(getpid());
    counters->ending = true;
    drain(loop, clients);
    for (EchoClient &client : clients) client.abort();

    if (!counters->messages) throw std::runtime_error("not one message was echoed");
    Report report;
    report.add("messages", counters->messages);
    report.add("seconds", seconds);
    report.add("messages_per_second", static_cast<double>(counters->messages) / seconds);
    report.add_latency("latency_us", counters->latency);
    if (options.pid) report.add_cpu("server_cpu", server_before, server_after, counters->messages, seconds);
    report.add_cpu("load_cpu", own_before, own_after, counters->messages, seconds);
    return report;
}

}  // namespace load
