// Fan-out to a topic. Messages go through upstream's tree, which keeps them until the end of the iteration, so that each
// subscriber gets all of them with one system call; large ones that gain nothing by it are written to each subscriber at
// once, under each one's own limit (defect S7). Both without the GIL if it takes long: nothing of Python's is touched, and
// only this thread touches the sockets and the topics.
//
// The answer is true when it is given, so each subscriber's copy is admitted or refused here, by has_room_behind(), which is
// also what send() asks, and never later. Most cost nothing for each subscriber: a socket without backlog has room for what
// topics hold for it, as long as that is no more than its limit. Before it would be more, the topics are drained.
#include "py/server/core.h"

namespace uwserve {

namespace {

constexpr size_t kLargeMessage = uWS::LoopData::CORK_BUFFER_SIZE;

// Ten messages of 16 KiB in one system call take half the time of ten calls, two of 64 KiB four fifths. The tree's copy
// costs about a tenth of one delivery.
constexpr size_t kGathered = 64u << 10;
constexpr size_t kWorthACopy = 4;  // subscribers

// A fan-out of so many bytes takes some milliseconds, about as long as Python lets a thread run while others wait.
constexpr size_t kLongFanOut = 2u << 20;

class WithoutGil {
  public:
    explicit WithoutGil(LoopGil *gil) : gil_(gil) {
        if (gil_) gil_->release();
    }
    ~WithoutGil() {
        if (gil_) gil_->ensure();
    }
    WithoutGil(const WithoutGil &) = delete;
    WithoutGil &operator=(const WithoutGil &) = delete;

  private:
    LoopGil *gil_;
};

us_socket_t *socket_of(uWS::Subscriber *subscriber) { return static_cast<us_socket_t *>(subscriber->user); }

bool is_blocked(us_socket_t *s) { return s->blocked || buffered_of(s); }

bool any_blocked(const uWS::Topic &topic, uWS::Subscriber *except) {
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber != except && is_blocked(socket_of(subscriber))) return true;
    }
    return false;
}

// A message on its way to the subscribers of a topic, and what becomes of it.
struct Publication {
    ServerCore &core;
    const uWS::Topic &topic;
    uWS::Subscriber *except;
    std::string_view message;
    uWS::OpCode opcode;
    bool compress;
    bool is_ample;  // the memory suffices even if no client reads
    bool any_blocked;

    bool backpressure = false;
    size_t dropped = 0;  // copies

    Topics &topics() const { return core.instance->topics(); }
    size_t framed() const { return message.size() + kLongestHeader; }
    // While no thread runs the loop, the GIL keeps other threads off it.
    LoopGil *unlocked_for(size_t bytes) const {
        return core.running() && topic.size() * bytes > kLongFanOut ? &core.gil : nullptr;
    }

    void refuse(us_socket_t *s) {
        dropped++;
        if (core.options.close_on_backpressure_limit) us_socket_shutdown_read(0, s);
    }
    void queue();
    void send_now();

  private:
    bool has_room(us_socket_t *s, size_t owed) const;
    std::vector<uWS::Subscriber *> judge();
};

// What is queued goes out with this call, or first, when it is not known to fit together with the message.
bool Publication::has_room(us_socket_t *s, size_t owed) const {
    const size_t most = buffered_of(s) + topics().queued_bytes() + framed();
    if (is_ample && most <= core.options.backpressure_limit && !s->read_shutdown) return true;
    return core.has_room_behind(s, message.size(), owed);
}

// Those without room. Nothing is queued for them any more.
[[gnu::noinline]] std::vector<uWS::Subscriber *> Publication::judge() {
    std::vector<uWS::Subscriber *> refused;
    size_t receivers = 0, owed = 0;
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber == except) continue;
        receivers++;
        us_socket_t *s = socket_of(subscriber);
        if (!is_blocked(s)) continue;
        if (has_room(s, owed)) {
            owed += framed();
            backpressure = true;
        } else {
            refused.push_back(subscriber);
            refuse(s);
        }
    }
    return refused;
}

void Publication::queue() {
    std::vector<uWS::Subscriber *> refused;
    if (any_blocked) [[unlikely]]
        refused = judge();
    std::string copy(message);
    WithoutGil unlocked(topics().will_drain(framed()) ? unlocked_for(topics().queued_bytes()) : nullptr);
    topics().publish(except, topic, std::move(copy), opcode, compress, refused);
}

void Publication::send_now() {
    Limits &limits = core.limits;
    SpareMemory *spare = &core.instance->lifecycle().spare_backlog;
    auto wants = [&](us_socket_t *s) {
        if (core.has_room(s, message.size())) {
            if (reserve_backlog(s, message.size(), spare)) return true;
            limits.refused(Refusal::kSendsBufferedBytes);
        }
        refuse(s);
        return false;
    };
    auto sent = [&](us_socket_t *s, Socket::SendStatus status) {
        backpressure |= status == Socket::BACKPRESSURE || s->blocked;
        dropped += status == Socket::DROPPED;
        limits.sent(s, opcode, message.size(), status);
        trim_backlog(s, spare);
    };
    WithoutGil unlocked(unlocked_for(message.size()));
    // Sending calls no callback, so the topic stays as it is.
    topics().send_now(topic, except, message, opcode, compress, wants, sent);
}

}  // namespace

bool ServerCore::has_room_behind(us_socket_t *s, size_t length, size_t owed) {
    send_queued(reinterpret_cast<Socket *>(s));  // which goes first, and may be what fills it
    const size_t backlog = buffered_of(s);
    // What is about to be closed for its limit sends nothing any more.
    const bool over_own = backlog && (s->read_shutdown || backlog + length > options.backpressure_limit);
    if (!over_own) {
        if (limits.has_memory(instance->topics().pending_bytes() + owed + length)) return true;
        instance->topics().drain();  // most of it is what the kernel takes
        if (limits.has_memory(owed + length)) return true;
    }
    limits.refused(over_own ? Refusal::kSendsBackpressure : Refusal::kSendsBufferedBytes);
    return false;
}

Py_ssize_t ServerCore::publish(Socket *sender, std::string_view topic, std::string_view message, uWS::OpCode opcode,
                               bool compress) {
    if (!instance) return 0;
    limits.stats.publishes.add();
    Topics &topics = instance->topics();
    uWS::Topic *found = topics.tree()->lookupTopic(topic);
    if (!found) return 0;
    limits.stats.topics.count(found);
    uWS::Subscriber *except = sender && !options.publish_to_self ? subscriber_of(sender) : nullptr;
    if (except && found->size() == 1 && found->count(except)) return 0;

    us_loop_t *loop = instance->loop();
    const size_t size = message.size(), queued = topics.queued_bytes();
    Publication to_all{*this, *found, except, message, opcode, compress, true, false};
    if (loop->num_blocked) us_loop_settle(loop);
    to_all.is_ample = limits.has_memory_elsewhere(topics.pending_bytes() + found->size() * to_all.framed());
    if (queued && (!to_all.is_ample || queued + to_all.framed() > options.backpressure_limit)) [[unlikely]] {
        WithoutGil unlocked(to_all.unlocked_for(queued));
        topics.drain();
    }
    to_all.any_blocked = loop->num_blocked && any_blocked(*found, except);
    // What is large has to find room by itself, and does so best on its way.
    if (size < kLargeMessage ||
        (size <= kGathered && !to_all.any_blocked && to_all.is_ample && found->size() >= kWorthACopy && !is_secure())) {
        to_all.queue();
    } else {
        to_all.send_now();
    }
    if (!us_loop_is_iterating(loop)) us_wakeup_loop(loop);  // upstream drains topics in iterations only (defect T6)
    if (to_all.dropped) return 0;
    return to_all.backpressure ? -1 : static_cast<Py_ssize_t>(size);
}

}  // namespace uwserve
