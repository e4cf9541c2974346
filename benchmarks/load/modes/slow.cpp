// slow: what a subscriber that hardly reads does to the others of its topic. First the fast ones are measured alone, then
// beside the slow ones. The publishers wait for the fast ones only, which must lose nothing. A slow one may lose messages,
// or be closed, as the server's limits have it, but what it gets must be whole and in order.
#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "modes/modes.h"
#include "topic.h"

namespace load {

namespace {

constexpr double kSettleSeconds = 0.1, kSampleSeconds = 0.25;
constexpr double kQuietSeconds = 1, kCatchUpSeconds = 30;
constexpr int kReceiveBuffer = 65536;

class SlowSubscriber final : public Subscriber {
  public:
    SlowSubscriber(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board)
        : Subscriber(loop, options, index, shape, board), joined_(board.publishers()) {}

    // As much as its rate allows since it was opened.
    void read_some() {
        if (!is_open()) return;
        auto allowed = static_cast<uint64_t>((now() - opened_) * static_cast<double>(options().rate));
        if (allowed > read_) read_ += receive(static_cast<size_t>(allowed - read_));
    }
    void read_on() {
        if (is_open()) start_reading();
    }
    bool has_all() {
        for (uint32_t i = 0; i < board().publishers(); i++) {
            if (joined_[i] && next(i) != board().published(i)) return false;
        }
        return true;
    }
    // Messages that it has not got since its first one.
    uint64_t missed() {
        uint64_t sum = gaps_;
        for (uint32_t i = 0; i < board().publishers(); i++) sum += joined_[i] ? board().published(i) - next(i) : 0;
        return sum;
    }

    uint64_t messages = 0;
    bool ended = false, was_reset = false;
    int code = 1006;  // of its close: none was seen

  private:
    void on_open() override {
        opened_ = now();
        stop_reading(kReceiveBuffer);
    }
    void check_order(Stamp stamp) override {
        uint32_t &expected = next(stamp.owner);
        if (!joined_[stamp.owner]) expected = stamp.number;
        joined_[stamp.owner] = true;
        if (stamp.number < expected) fail("a slow subscriber got a message twice, or after a later one");
        if (stamp.number >= board().published(stamp.owner)) fail("a message came that was not published yet");
        gaps_ += stamp.number - expected;
        expected = stamp.number;
    }
    void count(Stamp) override { messages++; }
    void on_control(Opcode opcode, std::string_view payload) override {
        if (opcode != kClose) return Client::on_control(opcode, payload);
        code = close_code(payload);
        append_frame(out().own(), kClose, payload.substr(0, 2));
    }
    void on_end(int error) override {
        if (!is_open()) Client::on_end(error);
        ended = true;
        was_reset = error;
        abort();
    }

    std::vector<bool> joined_;  // by publisher: its first message has come
    uint64_t gaps_ = 0, read_ = 0;
    double opened_ = 0;
};

class MemoryWatch {
  public:
    explicit MemoryWatch(int pid) : pid_(pid) {
        if (pid_) first_ = last_ = memory_of(pid_).rss;
        peak_ = first_;
    }
    void sample() {
        if (!pid_ || now() < sampled_ + kSampleSeconds) return;
        last_ = memory_of(pid_).rss;
        peak_ = std::max(peak_, last_);
        sampled_ = now();
    }
    void report(Report &report) {
        if (!pid_) return;
        Report memory;
        memory.add("before", first_);
        memory.add("peak", peak_);
        memory.add("after", memory_of(pid_).rss);
        report.add("server_rss_bytes", memory);
    }

  private:
    int pid_;
    int64_t first_ = 0, last_ = 0, peak_ = 0;
    double sampled_ = 0;
};

// After the run the slow ones read at full speed what the server still has for them.
void catch_up(Loop &loop, std::deque<SlowSubscriber> &slow) {
    for (SlowSubscriber &subscriber : slow) subscriber.read_on();
    auto total = [&] {
        uint64_t sum = 0;
        for (SlowSubscriber &subscriber : slow) sum += subscriber.messages + subscriber.ended;
        return sum;
    };
    double end = now() + kCatchUpSeconds, progress = now();
    for (uint64_t before = total(); now() < end && now() < progress + kQuietSeconds;) {
        if (std::all_of(slow.begin(), slow.end(), [](auto &s) { return s.ended || s.has_all(); })) return;
        loop.turn(0.1);
        if (total() != before) progress = now();
        before = total();
    }
}

Report describe(std::deque<SlowSubscriber> &slow) {
    uint64_t messages = 0, missed = 0, closed = 0, resets = 0;
    for (SlowSubscriber &subscriber : slow) {
        messages += subscriber.messages;
        missed += subscriber.missed();
        closed += subscriber.ended;
        resets += subscriber.was_reset;
    }
    Report report;
    report.add("outcome", closed ? "closed" : missed ? "dropped" : "delivered");
    report.add("messages", messages);
    report.add("missed", missed);
    report.add("closed", closed);
    report.add("resets", resets);
    if (closed) {
        auto first = std::find_if(slow.begin(), slow.end(), [](const SlowSubscriber &s) { return s.ended; });
        report.add("close_code", first->code);
    }
    return report;
}

}  // namespace

Report run_slow(const Options &options) {
    raise_fd_limit(options.subscribers + options.publishers + options.slow + 64);
    Crew crew(options);
    MessageShape shape(options.size, options.text);
    Board board(options, {options.subscribers});
    uint64_t deliveries = 0;
    Histogram alone, beside;
    Measured measured_alone, measured;
    Report report;
    crew.run([&](int) {
        Loop loop(options);
        std::deque<FastSubscriber> fast;
        std::deque<SlowSubscriber> slow;
        Publishing publishing(loop, options, shape, board);
        std::vector<Client *> all = publishing.clients(), late;
        uint32_t index = 0;
        for (int i = 0; i < options.subscribers; i++)
            all.push_back(&fast.emplace_back(loop, options, index++, shape, board, crew, deliveries));
        for (int i = 0; i < options.slow; i++) late.push_back(&slow.emplace_back(loop, options, index++, shape, board));
        open_all(loop, all, options.concurrency);
        loop.run_until(now() + kSettleSeconds);

        publishing.begin();
        measured_alone = crew.measure(loop, 0, [&] { publishing.go_on(crew.is_counting() ? &alone : nullptr, true); });
        uint64_t deliveries_alone = std::exchange(deliveries, 0);
        publishing.finish(loop, crew);

        MemoryWatch memory(options.pid);
        open_all(loop, late, options.concurrency);
        loop.run_until(now() + kSettleSeconds);
        crew.begin_again();
        publishing.begin();
        measured = crew.measure(loop, 0, [&] {
            publishing.go_on(crew.is_counting() ? &beside : nullptr, true);
            for (SlowSubscriber &subscriber : slow) subscriber.read_some();
            memory.sample();
        });
        publishing.finish(loop, crew);
        catch_up(loop, slow);

        measured.report(report, options, "deliveries", deliveries);
        report.add_latency("latency_us", beside);
        Report without;
        measured_alone.report(without, options, "deliveries", deliveries_alone);
        without.add_latency("latency_us", alone);
        report.add("without_slow", without);
        report.add("slow", describe(slow));
        memory.report(report);
        for (Client *client : all) client->abort();
        for (Client *client : late) client->abort();
    });
    return report;
}

}  // namespace load
