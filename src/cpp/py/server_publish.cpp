// Fan-out to a topic. Messages go through upstream's tree, which keeps them until the end of the iteration, so that each
// subscriber gets all of them with one system call; large ones that gain nothing by it are written to each subscriber at
// once, under each one's own limit (defect S7). Both without the GIL if it takes long: nothing of Python's is touched, and
// only this thread touches the sockets and the topics.
#include "server.h"

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

bool any_blocked(const uWS::Topic &topic, uWS::Subscriber *except) {
    for (uWS::Subscriber *subscriber : topic) {
        if (subscriber != except && (socket_of(subscriber)->blocked || backlog_of(socket_of(subscriber)))) return true;
    }
    return false;
}

}  // namespace

bool ServerCore::has_room_behind(us_socket_t *s, size_t length) {
    send_queued(reinterpret_cast<Socket *>(s));  // which goes first, and may be what fills it
    const size_t backlog = backlog_of(s);
    const bool over_own = backlog && backlog + length > options.backpressure_limit;
    if (!over_own && limits.has_memory(length)) return true;
    limits.refused(over_own ? Refusal::kSendsBackpressure : Refusal::kSendsBufferedBytes);
    return false;
}

Py_ssize_t ServerCore::publish(Socket *sender, std::string_view topic, std::string_view message, uWS::OpCode opcode,
                               bool compress) {
    if (!engine) return 0;
    limits.stats.publishes.add();
    Topics &topics = engine->topics();
    uWS::Topic *found = topics.tree()->lookupTopic(topic);
    if (!found) return 0;
    limits.stats.topics.count(found);
    uWS::Subscriber *except = sender && !options.publish_to_self ? subscriber_of(sender) : nullptr;
    if (except && found->size() == 1 && found->count(except)) return 0;

    us_loop_t *loop = engine->loop();
    bool backpressure = loop->num_blocked && any_blocked(*found, except);
    Py_ssize_t taken = static_cast<Py_ssize_t>(message.size());
    // Who has backpressure already is told of drops.
    const size_t size = message.size();
    bool queues = size < kLargeMessage || (size <= kGathered && !backpressure && found->size() >= kWorthACopy &&
                                           !is_secure() && limits.has_memory(size));
    // While nobody runs the loop, the GIL is what keeps other threads off it.
    auto unlocked_for = [&](size_t bytes) { return running() && found->size() * bytes > kLongFanOut ? &gil : nullptr; };
    if (queues) {
        std::string copy(message);
        WithoutGil unlocked(topics.will_drain(size) ? unlocked_for(topics.queued_bytes()) : nullptr);
        topics.publish(except, topic, std::move(copy), opcode, compress);
    } else {
        size_t dropped = 0, receivers = 0;
        SpareMemory *spare = &engine->guard().spare_backlog;
        auto wants = [&](us_socket_t *s) {
            receivers++;
            bool over_limit = !has_room(s, message.size());
            if (!over_limit && reserve_backlog(s, message.size(), spare)) return true;
            dropped++;
            if (over_limit && options.close_on_backpressure_limit) us_socket_shutdown_read(0, s);
            return false;
        };
        auto sent = [&](us_socket_t *s, Socket::SendStatus status) {
            backpressure |= status == Socket::BACKPRESSURE;
            limits.sent(s, opcode, message.size(), status);
            trim_backlog(s, spare);
        };
        WithoutGil unlocked(unlocked_for(message.size()));
        // Sending calls nobody back, so the topic stays as it is.
        topics.send_now(*found, except, message, opcode, compress, wants, sent);
        if (dropped == receivers) taken = 0;
    }
    if (!us_loop_is_iterating(loop)) us_wakeup_loop(loop);  // upstream drains topics in iterations only (defect T6)
    return taken && backpressure ? -1 : taken;
}

}  // namespace uwserve
