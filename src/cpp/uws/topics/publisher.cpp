#include "uws/topics/publisher.h"
#include "usockets/loop/embedding.h"

#include "uws/deflate/per_message.h"

namespace uwserve {

namespace {

constexpr size_t kLargeMessage = uWS::LoopData::CORK_BUFFER_SIZE;

// Ten messages of 16 KiB in one system call take half the time of ten calls, two of 64 KiB four fifths. The tree's copy
// costs about a tenth of one delivery.
constexpr size_t kGathered = 64u << 10;
constexpr size_t kWorthACopy = 4;  // subscribers

// A fan-out of this many bytes takes some milliseconds, about as long as Python lets a thread run while others wait.
constexpr size_t kLongFanOut = 2u << 20;

struct EndLongWork {
    void operator()(WsHandler *handler) const { handler->long_work_ends(); }
};
std::unique_ptr<WsHandler, EndLongWork> begin_long_work(WsHandler &handler, bool is_long) {
    return std::unique_ptr<WsHandler, EndLongWork>(is_long && handler.long_work_begins() ? &handler : nullptr);
}

us_socket_t *socket_of(uWS::Subscriber *subscriber) { return static_cast<us_socket_t *>(subscriber->user); }

bool is_blocked(us_socket_t *s) { return s->blocked || buffered_of(s); }

bool has_blocked(const uWS::Topic &topic, uWS::Subscriber *except) {
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber != except && is_blocked(socket_of(subscriber))) return true;
    }
    return false;
}

}  // namespace

// One message, and the results of its copies.
struct Publisher::Publication {
    Publisher &publisher;
    const uWS::Topic &topic;
    uWS::Subscriber *except;
    std::string_view message;
    uWS::OpCode opcode;
    bool compress;
    bool is_ample;  // the memory suffices even if no client reads
    bool any_blocked;

    bool backpressure = false;
    size_t dropped = 0;  // copies

    Limits &limits() const { return publisher.limits_; }
    Topics &topics() const { return publisher.topics_; }
    size_t framed() const { return message.size() + kLongestHeader; }
    bool is_long(size_t bytes) const { return topic.size() * bytes > kLongFanOut; }

    void refuse(us_socket_t *s) {
        dropped++;
        Sender::refuse(s, limits());
    }
    void queue();
    void send_now();

  private:
    bool admits(us_socket_t *s, size_t owed) const;
    std::vector<uWS::Subscriber *> refused_subscribers();
};

// If the queued bytes may not fit together with the message, admits_behind() sends them first.
bool Publisher::Publication::admits(us_socket_t *s, size_t owed) const {
    const size_t most = buffered_of(s) + topics().queued_bytes() + framed();
    if (is_ample && most <= limits().websocket.backpressure_limit && !s->read_shutdown) return true;
    return publisher.sender_.admits_behind(s, message.size(), owed);
}

// These have nothing queued any more.
[[gnu::noinline]] std::vector<uWS::Subscriber *> Publisher::Publication::refused_subscribers() {
    std::vector<uWS::Subscriber *> refused;
    size_t owed = 0;
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber == except) continue;
        us_socket_t *s = socket_of(subscriber);
        if (!is_blocked(s)) continue;
        if (admits(s, owed)) {
            owed += framed();
            backpressure = true;
        } else {
            refused.push_back(subscriber);
            refuse(s);
        }
    }
    return refused;
}

// In line, because a call costs a small message too much.
[[gnu::always_inline]] inline void Publisher::Publication::queue() {
    std::vector<uWS::Subscriber *> refused;
    if (any_blocked) [[unlikely]]
        refused = refused_subscribers();
    std::string copy(message);
    const auto work =
        begin_long_work(publisher.handler_, topics().will_drain(framed()) && is_long(topics().queued_bytes()));
    topics().publish(except, topic, std::move(copy), opcode, compress, refused);
}

void Publisher::Publication::send_now() {
    SpareMemory *spare = &publisher.sender_.send_reserve;
    FanOut forms;
    const auto work = begin_long_work(publisher.handler_, is_long(message.size()));
    // Sending calls no callback, so the topic does not change.
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber == except) continue;
        us_socket_t *s = socket_of(subscriber);
        bool admitted = publisher.sender_.admits(s, message.size());
        if (admitted && !reserve_backlog(s, message.size(), spare)) {
            limits().refused(Refusal::kSendsBufferedBytes);
            admitted = false;
        }
        if (!admitted) {
            refuse(s);
            continue;
        }
        const auto status = send_or_end(reinterpret_cast<Socket *>(s), message, opcode, compress, forms, 0);
        backpressure |= status == Socket::BACKPRESSURE || s->blocked;
        dropped += status == Socket::DROPPED;
        limits().sent(s, opcode, message.size(), status);
        trim_backlog(s, spare);
    }
}

SendResult Publisher::publish(us_loop_t *loop, Socket *from, std::string_view topic, std::string_view message,
                              Opcode opcode, bool compress) {
    limits_.stats.publishes.add();
    uWS::Topic *found = topics_.tree()->lookupTopic(topic);
    if (!found) return SendResult::kDropped;
    limits_.stats.topics.count(found);
    const WebSocketSettings &settings = limits_.websocket;
    uWS::Subscriber *except = from && !settings.publish_to_self ? subscriber_of(from) : nullptr;
    if (except && found->size() == 1 && found->count(except)) return SendResult::kDropped;

    const size_t size = message.size(), queued = topics_.queued_bytes();
    Publication to_all{*this, *found, except, message, static_cast<uWS::OpCode>(opcode), compress, true, false};
    if (loop->num_blocked) us_loop_settle(loop);
    to_all.is_ample = limits_.has_memory_elsewhere(topics_.pending_bytes() + found->size() * to_all.framed());
    if (queued && (!to_all.is_ample || queued + to_all.framed() > settings.backpressure_limit)) [[unlikely]] {
        const auto work = begin_long_work(handler_, to_all.is_long(queued));
        topics_.drain();
    }
    to_all.any_blocked = loop->num_blocked && has_blocked(*found, except);
    // A large message is admitted for each subscriber by itself, when it is sent.
    if (size < kLargeMessage ||
        (size <= kGathered && !to_all.any_blocked && to_all.is_ample && found->size() >= kWorthACopy &&
         us_socket_can_write_parts(socket_of(*found->begin())))) {
        to_all.queue();
    } else {
        to_all.send_now();
    }
    if (!us_loop_is_iterating(loop)) us_wakeup_loop(loop);  // topics are drained in iterations only (defect T6)
    if (to_all.dropped) return SendResult::kDropped;
    return to_all.backpressure ? SendResult::kQueued : SendResult::kSent;
}

}  // namespace uwserve
