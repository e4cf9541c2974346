// Fan-out to a topic. Small messages go through upstream's tree, which batches them per subscriber until the end of the
// iteration; large ones are written to each subscriber at once, under each one's own limit (defect S7). Both without the GIL
// if it takes long: nothing of Python's is touched, and only this thread touches the sockets and the topics.
#include "server.h"

namespace uwserve {

namespace {

constexpr size_t kLargeMessage = uWS::LoopData::CORK_BUFFER_SIZE;

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
    if (message.size() < kLargeMessage) {
        topics.publish(except, topic, message, opcode, compress);
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
        // While nobody runs the loop, the GIL is what keeps other threads off it.
        WithoutGil unlocked(running() && found->size() * message.size() > kLongFanOut ? &gil : nullptr);
        // Sending calls nobody back, so the topic stays as it is.
        topics.send_now(*found, except, message, opcode, compress, wants, sent);
        if (dropped == receivers) taken = 0;
    }
    if (!us_loop_is_iterating(loop)) us_wakeup_loop(loop);  // upstream drains topics in iterations only (defect T6)
    return taken && backpressure ? -1 : taken;
}

}  // namespace uwserve
