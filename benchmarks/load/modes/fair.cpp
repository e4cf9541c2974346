// fair: one connection sends small messages flat out and reads their echoes, another sends one message at a time and
// measures its round trip. The two run on threads of their own, because a server that is unfair and a generator that is
// would look the same. The flood is alone for the warm-up.
#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "wire/client.h"
#include "modes/modes.h"
#include "process.h"
#include "shape.h"

namespace load {

namespace {

constexpr size_t kChunk = 64 * 1024;  // bytes that the flood adds when it has fewer than that unsent
constexpr size_t kMaxUnread = 4u << 20;  // echoes under way; less than any server's limit for what it may owe

constexpr double kDrainSeconds = 10;

class Flood final : public Client {
  public:
    Flood(Loop &loop, const Options &options, const MessageShape &shape) : Client(loop, options, 0), shape_(shape) {}

    void run(Loop &loop, const std::atomic<bool> &stop) {
        while (!stop.load(std::memory_order_relaxed)) {
            while (unsent() < kChunk && !is_owed_enough()) shape_.append(out(), {0, sent_++});
            flush();
            loop.turn(unsent() || is_owed_enough() ? 0.001 : 0);
        }
        for (double end = now() + kDrainSeconds; echoes != sent_; loop.turn(0.1)) {
            if (now() > end) fail("echoes of the flood are missing");
        }
    }

    std::atomic<uint32_t> echoes = 0;

  private:
    // What the server may owe is bounded, or a server with a limit would rightly drop some of it.
    bool is_owed_enough() const { return (sent_ - echoes) * (shape_.size() + 1) >= kMaxUnread; }

    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches({0, echoes}, offset, data))
            fail("the flood's echo " + std::to_string(echoes) + " is wrong");
    }
    void on_message(Opcode opcode, size_t size, bool) override {
        if (opcode != shape_.opcode() || size != shape_.size()) fail("the flood's echo has a wrong type or size");
        if (echoes == sent_) fail("a message came that was not asked for");
        echoes.store(echoes + 1, std::memory_order_relaxed);
    }

    const MessageShape &shape_;
    uint32_t sent_ = 0;
};

class Probe final : public Client {
  public:
    Probe(Loop &loop, const Options &options, const MessageShape &shape) : Client(loop, options, 1), shape_(shape) {}

    void send() {
        shape_.append(out(), {1, number_});
        waits_ = true;
        sent_at_ = now_ns();
        flush();
    }
    void finish(Loop &loop) {
        ending_ = true;
        for (double end = now() + kDrainSeconds; waits_; loop.turn(0.1)) {
            if (now() > end) fail("the probe's echo is missing");
        }
    }
    bool counting = false;
    Histogram latency;

  private:
    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches({1, number_}, offset, data)) fail("the probe's echo is wrong");
    }
    void on_message(Opcode opcode, size_t size, bool) override {
        if (opcode != shape_.opcode() || size != shape_.size()) fail("the probe's echo has a wrong type or size");
        if (!waits_) fail("a message came that was not asked for");
        if (counting) latency.add(loop().read_at() - sent_at_);
        number_++;
        waits_ = false;
        if (!ending_) send();
    }

    const MessageShape &shape_;
    bool waits_ = false, ending_ = false;
    uint32_t number_ = 0;
    uint64_t sent_at_ = 0;
};

// The flood's thread. It ends when the flood is stopped, or fails.
class Flooder {
  public:
    Flooder(Flood &flood, Loop &loop)
        : thread_([this, &flood, &loop] {
              try {
                  flood.run(loop, stop_);
              } catch (...) {
                  error_ = std::current_exception();
              }
              ended_ = true;
          }) {}
    ~Flooder() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    bool has_ended() const { return ended_; }
    // Throws what it has failed with.
    void stop() {
        stop_ = true;
        thread_.join();
        if (error_) std::rethrow_exception(error_);
    }

  private:
    std::atomic<bool> stop_ = false, ended_ = false;
    std::exception_ptr error_;
    std::thread thread_;  // last: it uses the others
};

}  // namespace

Report run_fair(const Options &options) {
    MessageShape shape(options.size, options.text);
    Loop flood_loop(options), loop(options);
    Flood flood(flood_loop, options, shape);
    Probe probe(loop, options, shape);
    open_all(flood_loop, {&flood}, 1);
    open_all(loop, {&probe}, 1);

    Flooder flooder(flood, flood_loop);
    auto run = [&](double seconds) {
        for (double end = now() + seconds; now() < end && !flooder.has_ended();) loop.turn(std::min(end - now(), 0.1));
        if (flooder.has_ended()) flooder.stop();
    };
    run(options.warmup);
    probe.send();
    run(options.warmup);
    CpuTime before = options.pid ? cpu_of(options.pid) : CpuTime();
    uint32_t flooded = flood.echoes;
    double start = now();
    probe.counting = true;
    run(options.seconds);
    probe.counting = false;
    double seconds = now() - start;
    flooded = flood.echoes - flooded;
    CpuTime after = options.pid ? cpu_of(options.pid) : CpuTime();
    flooder.stop();
    probe.finish(loop);
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
