// Topics: uWebSockets' tree with a fan-out of ours.
//
// uWebSockets' own fan-out uncorks sockets that it has not corked (defect S13), ends a subscriber's batch silently at
// the first drop (T8) and compresses once for every subscriber (T7). Here each message has a number, and its compressed
// forms are kept under it until the topics are drained: a broadcast is compressed once for every setting that its
// subscribers have negotiated. Subscribers with a context of their own are served one by one, as they must be.
//
// Admission. Whether a subscriber gets a message is decided when it is published, by the Publisher, and not again:
// what is queued for a subscriber is sent, unless the connection ends first. For that
// decision to be sound, what is queued must be known to fit: queued_bytes() bounds what any one subscriber has queued,
// pending_bytes() what all of them have together. If this much may not fit, the caller calls drain(), or sends what one
// subscriber has queued, and then decides by the real backlog.
//
// Ownership: App owns the tree and deletes it; Topics lives at least as long. Loop thread only; calls no user code.
#pragma once

#include <span>
#include <string>
#include <unordered_map>

#include "uws/limits/limits.h"
#include "uws/upstream/uwebsockets.h"
#include "uws/topics/gathered_write.h"

namespace uwserve {

// The compressed forms of messages that are on their way to several sockets.
class FanOut {
  public:
    // Nothing: it does not get smaller.
    std::optional<std::string_view> compressed(Codecs &codecs, std::string_view message, uint32_t sequence,
                                               unsigned window);
    void clear() { forms_.clear(); }

  private:
    std::unordered_map<uint64_t, std::string> forms_;  // by number and window; empty: not smaller
};

class Topics {
  public:
    Topics(Codecs &codecs, Limits &limits) : codecs_(codecs), limits_(limits) {}

    // Gives `app` a tree that the loop of this thread drains in every iteration.
    void install(App &app);
    TopicTree *tree() const { return tree_; }

    // Queued until the end of the iteration, or until too much is queued. Nothing must be queued for those that are
    // `refused`, which do not get it. Throws std::bad_alloc, and then no subscriber gets it.
    void publish(uWS::Subscriber *except, const uWS::Topic &topic, std::string message, uWS::OpCode opcode,
                 bool compress, std::span<uWS::Subscriber *const> refused = {});
    // To every subscriber that `wants` it, at once. `wants(socket)`, `sent(socket, status)`.
    template <typename Wants, typename Sent>
    void send_now(const uWS::Topic &topic, uWS::Subscriber *except, std::string_view message, uWS::OpCode opcode,
                  bool compress, Wants wants, Sent sent) {
        uint32_t sequence = next_sequence();
        for (uWS::Subscriber *subscriber : topic) {
            auto *s = static_cast<us_socket_t *>(subscriber->user);
            if (subscriber == except || !wants(s)) continue;
            sent(s, send_whole(s, message, opcode, compress, sequence));
        }
        large_.clear();
    }
    // Throws std::bad_alloc, and has changed nothing then.
    void subscribe(Socket *ws, std::string_view topic);
    bool unsubscribe(Socket *ws, std::string_view topic);  // false: it was not subscribed
    static bool is_subscribed(Socket *ws, std::string_view topic) { return ws->isSubscribed(topic); }
    static std::vector<std::string> subscriptions(Socket *ws);  // sorted
    size_t subscriber_count(std::string_view topic) const;
    void drain() {
        if (num_queued_) drain_all();
    }
    // Whether publish() of so many bytes is likely to send what is queued to a topic's subscribers.
    bool will_drain(size_t size) const {
        return queued_bytes_ + size > kMaxQueued || (num_queued_ && num_queued_ % Batch::kMostMessages == 0);
    }
    // With headers. Never less than what is queued for any one subscriber, or for all of them.
    size_t queued_bytes() const { return queued_bytes_; }
    size_t pending_bytes() const { return pending_bytes_; }

  private:
    // The tree keeps a copy of every message until it is drained; it is drained early past this (defect T7).
    static constexpr size_t kMaxQueued = 1u << 20;

    [[gnu::noinline]] void drain_all();
    bool deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags);
    bool gather(Socket *ws, uWS::TopicTreeMessage &message);
    void flush_batch();
    void send_one(Socket *ws, uWS::TopicTreeMessage &message);
    // The connection ends when memory runs out in it.
    Socket::SendStatus send_whole(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                  uint32_t sequence);
    Socket::SendStatus send_message_to(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                       uint32_t sequence);
    uint32_t next_sequence() { return sequence_ = (sequence_ + 1) & 0x7FFFFFF; }

    std::set<uWS::Topic *>::node_type spare_note_;  // for subscribe() to take back what uWebSockets has half done
    Codecs &codecs_;
    Limits &limits_;  // which counts what a subscriber's backpressure limit, or want of memory, kept from it
    TopicTree *tree_ = nullptr;
    FanOut queued_, large_;
    size_t queued_bytes_ = 0, pending_bytes_ = 0, num_queued_ = 0;
    uint32_t sequence_ = 0;
    bool corked_ = false;  // the socket, by the messages that are being delivered
    bool discards_ = false;  // the message that is being delivered was refused
    Batch batch_;
    // What is in it, for statistics and in case that it does not go out whole.
    struct Gathered {
        uWS::TopicTreeMessage *message;
        size_t compressed_size;  // 0: sent as it is
    };
    std::array<Gathered, Batch::kMostMessages> gathered_;
    size_t num_gathered_ = 0;
};

}  // namespace uwserve
