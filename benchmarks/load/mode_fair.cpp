// fair: one connection sends small messages flat out and reads their echoes, another sends one message at a time and
// measures its round trip. The two run on threads of their own, because a server that is unfair and a generator that is
// would look the same. The flood is alone for the warm-up.
#include <atomic>
#include <exception>
#include <thread>

#include "client.h"
#include "modes.h"
#include "process.h"
#include "shape.h"

namespace load {

namespace {

constexpr size_t kChunk = 64 * 1024;  // bytes that the flood adds when it has fewer than that unsent
constexpr size_t kMaxUnread = 4u << 20;  // echoes under way; less than any server's limit for what it may owe

class Flood final : public Client {
  public:
    Flood(Loop &loop, const Options &options, const MessageShape &shape) : Client(loop, options, 0), shape_(shape) {}

    void run(Loop &loop, const std::atomic<bool> &stop) {
        while (!stop.load(std::memory_order_relaxed)) {
            while (unsent() < kChunk && !is_owed_enough()) shape_.append(out(), {0, sent_++});
            flush();
            loop.turn(unsent() || is_owed_enough() ? 0.001 : 0);
        }
    }

    std::atomic<uint32_t> echoes = 0;

  private:
    // What the server may owe is bounded, or a server with a limit would rightly drop some of it.
    bool is_owed_enough() const { return (sent_ - echoes) * shape_.size() >= kMaxUnread; }

    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches({0, echoes}, offset, data))
            fail("the flood's echo " + std::to_string(echoes) + " is wrong");
    }
    void on_message(Opcode, size_t, bool) override { echoes.store(echoes + 1, std::memory_order_relaxed); }

    const MessageShape &shape_;
    uint32_t sent_ = 0;
};

class Probe final : public Client {
  public:
    Probe(Loop &loop, const Options &options, const MessageShape &shape) : Client(loop, options, 1), shape_(shape) {}

    void send() {
        shape_.append(out(), {1, number_});
        sent_at_ = now_ns();
        flush();
    }
    bool counting = false;
    Histogram latency;

  private:
    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches({1, number_}, offset, data)) fail("the probe's echo is wrong");
    }
    void on_message(Opcode, size_t, bool) override {
        if (counting) latency.add(now_ns() - sent_at_);
        number_++;
        shape_.append(out(), {1, number_});
        sent_at_ = now_ns();
    }

    const MessageShape &shape_;
    uint32_t number_ = 0;
    uint64_t sent_at_ = 0;
};

}  // namespace

Report run_fair(const Options &options) {
    MessageShape shape(options.size, options.text);
    std::atomic<bool> stop = false;
    std::exception_ptr flood_error;
    Loop flood_loop(options), loop(options);
    Flood flood(flood_loop, options, shape);
    Probe probe(loop, options, shape);
    open_all(flood_loop, {&flood}, 1);
    open_all(loop, {&probe}, 1);

    std::thread flooder([&] {
        try {
            flood.run(flood_loop, stop);
        } catch (...) {
            flood_error = std::current_exception();
        }
    });
    std::exception_ptr error;
    CpuTime before, after;
    uint32_t flooded = 0;
    double seconds = 0;
    try {
        loop.run_until(now() + options.warmup);
        probe.send();
        loop.run_until(now() + options.warmup);
        before = options.pid ? cpu_of(options.pid) : CpuTime();
        flooded = flood.echoes;
        double start = now();
        probe.counting = true;
        loop.run_until(start + options.seconds);
        seconds = now() - start;
        flooded = flood.echoes - flooded;
        after = options.pid ? cpu_of(options.pid) : CpuTime();
    } catch (...) {
        error = std::current_exception();
    }
    stop = true;
    flooder.join();
    if (flood_error) std::rethrow_exception(flood_error);
    if (error) std::rethrow_exception(error);
    flood.abort();
    probe.abort();

    Report report;
    report.add("seconds", seconds);
    report.add_latency("probe_latency_us", probe.latency);
    report.add("flood_messages_per_second", flooded / seconds);
    if (options.pid) report.add_cpu("server_cpu", before, after, flooded + probe.latency.count(), seconds);
    return report;
}

}  // namespace load
