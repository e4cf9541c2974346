// echo: closed loop. Each connection has `depth` messages under way; every echo is compared byte by byte, its latency is
// recorded and the next message is sent. Messages of one read are answered in one send.
//
// Without compression each message says in its first bytes whose and which one it is. A compressed one can't be changed
// for each sending, so each connection goes round a pool of distinct ones, from a place of its own.
#include <algorithm>
#include <deque>
#include <memory>

#include "crew.h"
#include "wire/deflate.h"
#include "modes/modes.h"
#include "shape.h"

namespace load {

namespace {

constexpr double kDrainSeconds = 10;  // without a single byte
constexpr double kLingerSeconds = 0.02;  // for what a server sends twice

class EchoClient : public Client {
  public:
    EchoClient(Loop &loop, const Options &options, uint32_t index, const Crew &crew, Histogram &latency)
        : Client(loop, options, index), crew_(crew), latency_(latency), sent_at_(static_cast<size_t>(options.depth)) {}

    void begin() {
        for (size_t i = 0; i < sent_at_.size(); i++) send_next(now_ns());
        flush();
    }
    bool is_complete() const { return sent_ == received_; }

  protected:
    virtual void append(uint32_t number) = 0;
    uint32_t received() const { return received_; }
    void expect_any() const {
        if (received_ == sent_) fail("a message came that was not asked for");
    }
    void count() {
        uint64_t when = loop().read_at();
        if (crew_.is_counting()) latency_.add(when - sent_at_[next_received_]);
        received_++;
        if (++next_received_ == sent_at_.size()) next_received_ = 0;
        if (!crew_.is_ending()) send_next(when);
    }
    [[noreturn]] void fail_echo(const char *what) const { fail("echo " + std::to_string(received_) + " " + what); }

  private:
    void send_next(uint64_t when) {
        append(sent_++);
        sent_at_[next_sent_] = when;
        if (++next_sent_ == sent_at_.size()) next_sent_ = 0;
    }

    const Crew &crew_;
    Histogram &latency_;
    std::vector<uint64_t> sent_at_;  // a ring: those under way
    size_t next_sent_ = 0, next_received_ = 0;
    uint32_t sent_ = 0, received_ = 0;
};

class StampedEcho final : public EchoClient {
  public:
    StampedEcho(Loop &loop, const Options &options, uint32_t index, const Crew &crew, Histogram &latency,
                const MessageShape &shape)
        : EchoClient(loop, options, index, crew, latency), shape_(shape) {}

  private:
    void append(uint32_t number) override { shape_.append(out(), {index(), number}); }
    void on_payload(Opcode, size_t offset, std::string_view data) override {
        if (!shape_.matches({index(), received()}, offset, data)) fail_echo("is not what was sent");
    }
    void on_message(Opcode opcode, size_t size, bool) override {
        if (opcode != shape_.opcode() || size != shape_.size()) fail_echo("has another type or size");
        expect_any();
        count();
    }
    void on_whole(Opcode opcode, std::string_view data, bool compressed) override {
        if (!shape_.matches_whole({index(), received()}, opcode, data)) {
            EchoClient::on_whole(opcode, data, compressed);  // says what is wrong
            return;
        }
        expect_any();
        count();
    }

    const MessageShape &shape_;
};

class CompressedEcho final : public EchoClient {
  public:
    CompressedEcho(Loop &loop, const Options &options, uint32_t index, const Crew &crew, Histogram &latency,
                   const CompressedPool &pool, VerifiedReplies &replies)
        : EchoClient(loop, options, index, crew, latency), pool_(pool), replies_(replies) {}

  private:
    size_t entry(uint32_t number) const { return (index() * 97ul + number) % pool_.count(); }
    void append(uint32_t number) override {
        const std::string &frame = pool_.frame(entry(number));
        if (frame.size() <= kMaxCopied) {
            out().own() += frame;
        } else {
            out().share(frame);
        }
    }
    void on_payload(Opcode, size_t, std::string_view data) override {
        if (gathered_.size() + data.size() > pool_.plain(0).size() * 2 + 1024) fail_echo("is too long");
        gathered_ += data;
    }
    void on_message(Opcode opcode, size_t, bool compressed) override {
        std::string payload;
        payload.swap(gathered_);
        on_whole(opcode, payload, compressed);
    }
    void on_whole(Opcode opcode, std::string_view data, bool compressed) override {
        expect_any();
        if (opcode != pool_.opcode()) fail_echo("has another type");
        if (!replies_.matches(entry(received()), data, compressed)) fail_echo("is not what was sent");
        count();
    }

    static constexpr size_t kMaxCopied = 4096;
    const CompressedPool &pool_;
    VerifiedReplies &replies_;
    std::string gathered_;
};

// Everything that was sent must come back, or a server that loses a message would merely look slow.
void drain(Loop &loop, const Crew &crew, const std::vector<std::unique_ptr<EchoClient>> &clients) {
    const double start = now();
    for (const auto &client : clients) {
        while (!client->is_complete()) {
            crew.throw_if_failed();
            double last = std::max(start, static_cast<double>(loop.read_at()) * 1e-9);
            if (now() > last + kDrainSeconds)
                throw std::runtime_error("connection " + std::to_string(client->index()) + ": echoes are missing");
            loop.turn(0.1);
        }
    }
    loop.run_until(now() + kLingerSeconds);
}

struct Member {
    Histogram latency;
    std::unique_ptr<VerifiedReplies> replies;
};

}  // namespace

Report run_echo(const Options &options) {
    raise_fd_limit(options.connections + 64);
    Crew crew(options);
    std::unique_ptr<MessageShape> shape;
    std::unique_ptr<CompressedPool> pool;
    if (options.deflate) {
        pool = std::make_unique<CompressedPool>(options.size, options.text);
    } else {
        shape = std::make_unique<MessageShape>(options.size, options.text);
    }
    std::deque<Member> members(static_cast<size_t>(crew.members()));
    Measured measured;
    crew.run([&](int number) {
        Member &member = members[static_cast<size_t>(number)];
        if (pool) member.replies = std::make_unique<VerifiedReplies>(*pool);
        Loop loop(options);
        std::vector<std::unique_ptr<EchoClient>> clients;
        std::vector<Client *> all;
        for (int i = crew.first(options.connections, number); i < crew.first(options.connections, number + 1); i++) {
            auto index = static_cast<uint32_t>(i);
            if (pool) {
                clients.push_back(std::make_unique<CompressedEcho>(loop, options, index, crew, member.latency, *pool,
                                                                   *member.replies));
            } else {
                clients.push_back(std::make_unique<StampedEcho>(loop, options, index, crew, member.latency, *shape));
            }
            all.push_back(clients.back().get());
        }
        open_all(loop, all, options.concurrency);
        crew.meet();
        for (auto &client : clients) client->begin();
        Measured result = crew.measure(loop, number);
        if (number == 0) measured = result;
        drain(loop, crew, clients);
        for (auto &client : clients) client->abort();
    });

    Histogram latency;
    uint64_t inflated = 0, plain = 0;
    for (const Member &member : members) {
        latency.add(member.latency);
        if (member.replies) inflated += member.replies->inflated, plain += member.replies->plain;
    }
    Report report;
    measured.report(report, options, "messages", latency.count());
    report.add_latency("latency_us", latency);
    if (pool) {
        report.add("compression_ratio", pool->ratio());
        report.add("replies_inflated", inflated);
        report.add("replies_uncompressed", plain);
    }
    return report;
}

}  // namespace load
