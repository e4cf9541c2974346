// storm: connections that live for one message, as many a second as the server takes: connect, handshake, one echo, Close
// from both sides, and the server's FIN, which it must send first (RFC 6455 section 7.1.1).
//
// They come from changing loopback addresses, so that ports in TIME_WAIT are no limit.
#include <deque>
#include <utility>
#include <vector>

#include "crew.h"
#include "modes/modes.h"
#include "shape.h"

namespace load {

namespace {

constexpr double kStallSeconds = 10;
constexpr uint32_t kPerSource = 8192, kSources = 200;

struct Member {
    Histogram opened, closed;
    uint64_t resets = 0;
    std::vector<Client *> ended;
};

class StormClient final : public Client {
  public:
    StormClient(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, const Crew &crew,
                Member &member)
        : Client(loop, options, index), shape_(shape), crew_(crew), member_(member) {}

    void begin(uint32_t source) {
        step_ = Step::kOpening;
        begun_ = now_ns();
        connect(source);
    }
    bool is_stalled(uint64_t at) const {
        return step_ != Step::kIdle && at > begun_ && static_cast<double>(at - begun_) > kStallSeconds * 1e9;
    }
    [[noreturn]] void fail_stalled() const {
        static const char *const kSteps[] = {"", "handshake", "echo", "Close frame", "end of the connection"};
        fail(std::string("no ") + kSteps[static_cast<size_t>(step_)] + " for 10 seconds");
    }

  private:
    enum class Step { kIdle, kOpening, kEchoing, kClosing, kEnding };
    Stamp stamp() const { return {index(), life_}; }

    void on_open() override {
        if (crew_.is_counting()) member_.opened.add(now_ns() - begun_);
        step_ = Step::kEchoing;
        shape_.append(out(), stamp());
    }
    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (step_ != Step::kEchoing) fail("a message came that was not asked for");
        if (!shape_.matches(stamp(), offset, data)) fail("the echo is not what was sent");
    }
    void on_message(Opcode opcode, size_t size, bool) override {
        if (step_ != Step::kEchoing) fail("a message came that was not asked for");
        if (opcode != shape_.opcode() || size != shape_.size()) fail("the echo has another type or size");
        step_ = Step::kClosing;
        append_frame(out().own(), kClose, std::string_view("\x03\xe8", 2));
    }
    void on_control(Opcode opcode, std::string_view payload) override {
        if (opcode != kClose || step_ != Step::kClosing) {
            Client::on_control(opcode, payload);
            return;
        }
        if (close_code(payload) != 1000) fail("the Close frame has the code " + std::to_string(close_code(payload)));
        step_ = Step::kEnding;
    }
    void on_end(int error) override {
        if (step_ != Step::kEnding) Client::on_end(error);
        if (error) member_.resets++;
        if (crew_.is_counting()) member_.closed.add(now_ns() - begun_);
        step_ = Step::kIdle;
        life_++;
        abort(true);
        member_.ended.push_back(this);
    }

    const MessageShape &shape_;
    const Crew &crew_;
    Member &member_;
    Step step_ = Step::kIdle;
    uint32_t life_ = 0;
    uint64_t begun_ = 0;
};

}  // namespace

Report run_storm(const Options &options) {
    raise_fd_limit(options.concurrency + 64);
    Crew crew(options);
    MessageShape shape(options.size, options.text);
    std::deque<Member> members(static_cast<size_t>(crew.members()));
    Measured measured;
    crew.run([&](int number) {
        Member &member = members[static_cast<size_t>(number)];
        Loop loop(options);
        std::deque<StormClient> clients;
        uint32_t begun = 0;
        auto begin = [&](Client *client) {
            uint32_t source =
                (begun++ / kPerSource * static_cast<uint32_t>(crew.members()) + static_cast<uint32_t>(number)) %
                kSources;
            static_cast<StormClient *>(client)->begin(source + 1);
        };
        double checked = now();
        auto check_stalls = [&] {
            if (now() < checked + 1) return;
            checked = now();
            for (const StormClient &client : clients) {
                if (client.is_stalled(now_ns())) client.fail_stalled();
            }
        };
        int end = crew.first(options.concurrency, number + 1);
        for (int i = crew.first(options.concurrency, number); i < end; i++) {
            begin(&clients.emplace_back(loop, options, static_cast<uint32_t>(i), shape, crew, member));
        }
        Measured result = crew.measure(loop, number, [&] {
            for (Client *client : std::exchange(member.ended, {})) begin(client);
            check_stalls();
        });
        if (number == 0) measured = result;
        while (member.ended.size() < clients.size()) {
            crew.throw_if_failed();
            loop.turn(0.1);
            check_stalls();
        }
    });

    Histogram opened, closed;
    uint64_t resets = 0;
    for (const Member &member : members) {
        opened.add(member.opened);
        closed.add(member.closed);
        resets += member.resets;
    }
    Report report;
    measured.report(report, options, "connections", closed.count());
    report.add("handshakes_per_second", static_cast<double>(opened.count()) / measured.seconds);
    report.add_latency("handshake_latency_us", opened);
    report.add_latency("latency_us", closed);
    report.add("resets", resets);
    return report;
}

}  // namespace load
