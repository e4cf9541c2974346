// Topics: uWebSockets' tree with a fan-out of ours.
//
// uWebSockets' own fan-out uncorks sockets that it has not corked (defect S13), ends a subscriber's batch silently at
// the first drop (T8) and compresses once for every subscriber (T7). Here each message has a number, under which its
// compressed forms are kept until the topics are drained: a broadcast is compressed once for every setting that its
// subscribers have negotiated. A subscriber with a context of its own has its messages compressed one by one.
//
// Admission. The Publisher decides whether a subscriber gets a message when it is published, and it is not decided
// again: a queued message is sent, unless the connection ends first. So the queued bytes must be known to fit:
// queued_bytes() bounds the bytes of any one subscriber, pending_bytes() those of all together. If they may not fit,
// the caller calls drain(), or sends the queue of one subscriber, and then decides by the real backlog.
//
// Ownership: App owns the tree and deletes it; Topics lives at least as long. Loop thread only; calls no user code.
#pragma once

#include <span>
#include <string>
#include <unordered_map>

#include "uws/limits/limits.h"
#include "uws/topics/gathered_write.h"

namespace uwserve {

// The compressed forms of messages that are sent to several sockets.
class FanOut {
  public:
    // Compresses the message, or finds the form. Nothing: the message does not get smaller.
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

    // Queues a message until the end of the iteration, or until too much is queued. The `refused` subscribers do not
    // get it, and must have nothing queued. Throws std::bad_alloc, and then no subscriber gets it.
    void publish(uWS::Subscriber *except, const uWS::Topic &topic, std::string message, uWS::OpCode opcode,
                 bool compress, std::span<uWS::Subscriber *const> refused = {});
    // Throws std::bad_alloc, and has changed nothing then.
    void subscribe(Socket *ws, std::string_view topic);
    bool unsubscribe(Socket *ws, std::string_view topic);  // false: the socket was not subscribed
    static bool is_subscribed(Socket *ws, std::string_view topic) { return ws->isSubscribed(topic); }
    static std::vector<std::string> subscriptions(Socket *ws);  // sorted
    size_t subscriber_count(std::string_view topic) const;
    void drain() {
        if (num_queued_) drain_all();
    }
    // Whether publish() of `size` bytes is likely to send the queued messages to a topic's subscribers.
    bool will_drain(size_t size) const {
        return queued_bytes_ + size > kMaxQueued || (num_queued_ && num_queued_ % GatheredWrite::kMostMessages == 0);
    }
    // With headers. At least the bytes that are queued for any one subscriber, and for all of them together.
    size_t queued_bytes() const { return queued_bytes_; }
    size_t pending_bytes() const { return pending_bytes_; }

  private:
    // The tree keeps a copy of every message until it is drained. With more bytes than this it is drained early (defect
    // T7).
    static constexpr size_t kMaxQueued = 1u << 20;

    [[gnu::noinline]] void drain_all();
    bool deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags);
    bool gather(Socket *ws, uWS::TopicTreeMessage &message);
    void flush_gathered();
    void send_one(Socket *ws, uWS::TopicTreeMessage &message);

    std::set<uWS::Topic *>::node_type reserved_node_;  // lets subscribe() undo a half-made subscription without memory
    Codecs &codecs_;
    Limits &limits_;
    TopicTree *tree_ = nullptr;
    FanOut forms_;  // of the queued messages
    size_t queued_bytes_ = 0, pending_bytes_ = 0, num_queued_ = 0;
    uint32_t sequence_ = 0;  // the number of the last message
    bool is_corked_ = false;  // deliver() has corked the socket
    bool discards_ = false;  // deliver() discards the message, which was refused
    GatheredWrite write_;
    // The messages in `write_`, for statistics, and to send them again if the kernel does not take all.
    struct Gathered {
        uWS::TopicTreeMessage *message;
        size_t compressed_size;  // 0: not compressed
    };
    std::array<Gathered, GatheredWrite::kMostMessages> gathered_;
    size_t num_gathered_ = 0;
};

}  // namespace uwserve
