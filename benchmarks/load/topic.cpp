#include "topic.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace load {

namespace {

constexpr double kStallSeconds = 10;

std::string topic_path(const char *prefix, uint32_t index, uint32_t topics) {
    return prefix + std::to_string(index % topics);
}

}  // namespace

Board::Board(const Options &options, std::vector<int> audience)
    : batch_(options.batch),
      audience_(std::move(audience)),
      missing_(new Missing[static_cast<size_t>(options.publishers)]),
      published_(static_cast<size_t>(options.publishers)) {}

void Board::begin_batch(uint32_t publisher) {
    missing_[publisher].count.store(static_cast<int64_t>(batch_) * audience_of(publisher), std::memory_order_relaxed);
    published_[publisher].fetch_add(static_cast<uint32_t>(batch_), std::memory_order_release);
}

void Board::delivered(uint32_t publisher, int64_t count) {
    if (missing_[publisher].count.fetch_sub(count, std::memory_order_acq_rel) != count) return;
    {
        std::lock_guard lock(mutex_);
        finished_.push_back(publisher);
    }
    has_finished_.store(true, std::memory_order_release);
    if (loop_) loop_->wake();
}

std::vector<uint32_t> Board::take_finished() {
    if (!has_finished_.load(std::memory_order_acquire)) return {};
    std::lock_guard lock(mutex_);
    has_finished_ = false;
    return std::exchange(finished_, {});
}

Subscriber::Subscriber(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board)
    : Client(loop, options, index, topic_path("/sub/", index, board.topics())),
      shape_(shape),
      board_(board),
      next_(board.publishers() / board.topics() + 1) {}

void Subscriber::begin_message(const char *head) {
    if (!Stamp::read(head, stamp_)) fail("a message came that nobody published");
    if (stamp_.owner >= board_.publishers() || stamp_.owner % board_.topics() != index() % board_.topics())
        fail("a message of another topic came");
    check_order(stamp_);
}

void Subscriber::check_order(Stamp stamp) {
    uint32_t expected = next(stamp.owner);
    if (stamp.number != expected) {
        fail("message " + std::to_string(stamp.number) + " of publisher " + std::to_string(stamp.owner) +
             " came instead of " + std::to_string(expected));
    }
    if (stamp.number >= board_.published(stamp.owner)) fail("a message came that was not published yet");
}

void Subscriber::on_payload(Opcode, size_t offset, std::string_view data) {
    if (offset < Stamp::kSize) {
        size_t size = std::min(data.size(), Stamp::kSize - offset);
        memcpy(head_ + offset, data.data(), size);
        if (offset + size < Stamp::kSize) return;
        begin_message(head_);
        offset += size;
        data.remove_prefix(size);
    }
    if (!shape_.matches(stamp_, offset, data)) fail("a message is not what was published");
}

void Subscriber::on_message(Opcode opcode, size_t size, bool) {
    if (opcode != shape_.opcode() || size != shape_.size()) fail("a message has another type or size");
    next(stamp_.owner) = stamp_.number + 1;
    count(stamp_);
}

void Subscriber::on_whole(Opcode opcode, std::string_view data, bool compressed) {
    if (data.size() < Stamp::kSize) fail("a message is shorter than what was published");
    begin_message(data.data());
    if (!shape_.matches(stamp_, 0, data)) fail("a message is not what was published");
    on_message(opcode, data.size(), compressed);
}

void FastSubscriber::count(Stamp stamp) {
    if (stamp.owner != publisher_) settle();
    publisher_ = stamp.owner;
    unsettled_++;
    if (crew_.is_counting()) deliveries_++;
}

void FastSubscriber::settle() {
    if (unsettled_) board().delivered(publisher_, unsettled_);
    unsettled_ = 0;
}

Publisher::Publisher(Loop &loop, const Options &options, uint32_t index, const MessageShape &shape, Board &board)
    : Client(loop, options, index, topic_path("/pub/", index, board.topics())), shape_(shape), board_(board) {}

void Publisher::send_batch() {
    uint32_t number = board_.published(index());
    board_.begin_batch(index());
    for (uint32_t end = board_.published(index()); number < end; number++) shape_.append(out(), {index(), number});
    sent_at_ = now_ns();
    flush();
}

Publishing::Publishing(Loop &loop, const Options &options, const MessageShape &shape, Board &board) : board_(board) {
    if (options.threads > 1) board.set_loop(&loop);
    for (uint32_t i = 0; i < board.publishers(); i++)
        publishers_.push_back(std::make_unique<Publisher>(loop, options, i, shape, board));
}

std::vector<Client *> Publishing::clients() {
    std::vector<Client *> all;
    for (auto &publisher : publishers_) all.push_back(publisher.get());
    return all;
}

void Publishing::begin() {
    for (auto &publisher : publishers_) publisher->send_batch();
    under_way_ = publishers_.size();
}

void Publishing::go_on(Histogram *latency, bool send_more) {
    for (uint32_t i : board_.take_finished()) {
        if (latency) latency->add(now_ns() - publishers_[i]->sent_at());
        if (send_more) {
            publishers_[i]->send_batch();
        } else {
            under_way_--;
        }
    }
    if (now() > checked_ + 1) check_stalls();
}

void Publishing::check_stalls() {
    checked_ = now();
    progress_.resize(publishers_.size());
    for (uint32_t i = 0; i < board_.publishers(); i++) {
        Progress &last = progress_[i];
        int64_t missing = board_.missing(i);
        uint64_t sent_at = publishers_[i]->sent_at();
        if (missing <= 0 || missing != last.missing || sent_at != last.sent_at) {
            last = {missing, sent_at, checked_};
        } else if (checked_ - last.since > kStallSeconds) {
            throw std::runtime_error("publisher " + std::to_string(i) + ": " + std::to_string(missing) +
                                     " deliveries of a batch are missing");
        }
    }
}

void Publishing::finish(Loop &loop, const Crew &crew) {
    while (under_way_) {
        crew.throw_if_failed();
        loop.turn(0.1);
        go_on(nullptr, false);
    }
}

}  // namespace load
