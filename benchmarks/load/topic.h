// Publishers and subscribers of fanout and slow. A publisher sends a batch when all subscribers of its topic have got the
// last one; the board, which all threads share, knows when that is.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "crew.h"
#include "shape.h"

namespace load {

class Board {
  public:
    // `audience` of each topic: the subscribers that are waited for.
    Board(const Options &options, std::vector<int> audience);

    // Publisher's thread.
    void begin_batch(uint32_t publisher);
    uint32_t published(uint32_t publisher) const { return published_[publisher].load(std::memory_order_acquire); }
    std::vector<uint32_t> take_finished();
    // The publishers', to be woken at the end of a batch; without one they look after each turn.
    void set_loop(Loop *loop) { loop_ = loop; }
    int audience_of(uint32_t publisher) const { return audience_[publisher % audience_.size()]; }

    // Subscribers' threads: so many messages of that publisher have come.
    void delivered(uint32_t publisher, int64_t count);

    // All batches have ended, and no other begins.
    void close() { closed_ = true; }
    bool is_closed() const { return closed_; }

    uint32_t publishers() const { return static_cast<uint32_t>(published_.size()); }
    uint32_t topics() const { return static_cast<uint32_t>(audience_.size()); }
    int64_t missing(uint32_t publisher) const { return missing_[publisher].count.load(std::memory_order_relaxed); }

  private:
    struct alignas(64) Missing {
        std::atomic<int64_t> count = 0;
    };
    int batch_;
    std::vector<int> audience_;
    std::unique_ptr<Missing[]> missing_;  // deliveries of the batch under way, by publisher
    std::vector<std::atomic<uint32_t>> published_;
    Loop *loop_ = nullptr;
    std::mutex mutex_;
    std::vector<uint32_t> finished_;  // under mutex_
    std::atomic<bool> has_finished_ = false, closed_ = false;
};

// Tells by a message's stamp whose it is, and whether it is the right one.
class Subscriber : public Client {
  public:
    Subscriber(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board);

  protected:
    // A message has begun: whether it may come now. The default: the one after the last one of its publisher.
    virtual void check_order(Stamp stamp);
    virtual void count(Stamp stamp) = 0;
    uint32_t &next(uint32_t publisher) { return next_[publisher / board_.topics()]; }
    void on_payload(Opcode opcode, size_t offset, std::string_view data) override;
    void on_message(Opcode opcode, size_t size, bool compressed) override;
    void on_whole(Opcode opcode, std::string_view data, bool compressed) override;
    Board &board() { return board_; }

  private:
    void begin_message(const char *head);

    const MessageShape &shape_;
    Board &board_;
    std::vector<uint32_t> next_;  // number of each publisher of the topic
    Stamp stamp_{};
    char head_[Stamp::kSize];  // of a message that comes in pieces
};

// Waited for: its deliveries are counted.
class FastSubscriber final : public Subscriber {
  public:
    FastSubscriber(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board,
                   const Crew &crew, uint64_t &deliveries)
        : Subscriber(loop, options, index, shape, board), crew_(crew), deliveries_(deliveries) {}

  private:
    void count(Stamp stamp) override;
    void on_readable_done() override { settle(); }
    void settle();

    const Crew &crew_;
    uint64_t &deliveries_;
    uint32_t publisher_ = 0;
    int64_t unsettled_ = 0;  // messages of it that the board does not know of
};

class Publisher final : public Client {
  public:
    Publisher(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board);
    void send_batch();
    uint64_t sent_at() const { return sent_at_; }

  private:
    void on_payload(Opcode, size_t, std::string_view) override { fail("a publisher got a message"); }
    void on_message(Opcode, size_t, bool) override { fail("a publisher got a message"); }

    const MessageShape &shape_;
    Board &board_;
    uint64_t sent_at_ = 0;
};

// The publishers' side of the loop: starts their next batches, until it is stopped; watches for what does not come.
class Publishing {
  public:
    Publishing(Loop &loop, const Options &options, const MessageShape &shape, Board &board);
    std::vector<Client *> clients();
    void begin();
    // After each turn: `latency` gets the batches that have ended, if it is not nullptr.
    void go_on(Histogram *latency, bool send_more);
    // Until all batches have ended.
    void finish(Loop &loop, const Crew &crew);

  private:
    // A batch of which nothing has come for a while.
    void check_stalls();
    struct Progress {
        int64_t missing = 0;
        uint64_t sent_at = 0;
        double since = 0;
    };

    Board &board_;
    std::vector<std::unique_ptr<Publisher>> publishers_;
    std::vector<Progress> progress_;
    size_t under_way_ = 0;
    double checked_ = 0;
};

}  // namespace load
