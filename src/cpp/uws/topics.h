// Topics: upstream's tree with a fan-out of ours.
//
// Upstream's own fan-out uncorks sockets that it has not corked (defect S13), ends a subscriber's batch silently at the
// first drop (T8) and compresses once for every subscriber (T7). Here each message has a number, and its compressed forms
// are kept under it until the topics are drained: a broadcast is compressed once for every setting that its subscribers
// have negotiated. Subscribers with a context of their own are served one by one, as they must be.
//
// Ownership: App owns the tree and deletes it; Topics lives at least as long. Loop thread only; calls no user code.
#pragma once

#include <string>
#include <unordered_map>

#include "limits.h"
#include "uws.h"

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

    // For a message below upstream's cork buffer: queued until the end of the iteration, or until too much is queued.
    void publish(uWS::Subscriber *except, std::string_view topic, std::string_view message, uWS::OpCode opcode,
                 bool compress);
    // For a larger one: to every subscriber that `wants` it, at once. `wants(socket)`, `sent(socket, status)`.
    template <typename Wants, typename Sent>
    void send_now(const uWS::Topic &topic, uWS::Subscriber *except, std::string_view message, uWS::OpCode opcode,
                  bool compress, Wants wants, Sent sent) {
        uint32_t sequence = next_sequence();
        for (uWS::Subscriber *subscriber : topic) {
            auto *s = static_cast<us_socket_t *>(subscriber->user);
            if (subscriber == except || !wants(s)) continue;
            sent(s, send_message_to(s, message, opcode, compress, sequence));
        }
        large_.clear();
    }
    void drain();
    size_t queued_bytes() const { return queued_bytes_; }

  private:
    bool deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags);
    Socket::SendStatus send_message_to(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                       uint32_t sequence);
    uint32_t next_sequence() { return sequence_ = (sequence_ + 1) & 0x7FFFFFF; }

    Codecs &codecs_;
    Limits &limits_;  // which counts what a subscriber's backpressure limit, or want of memory, kept from it
    TopicTree *tree_ = nullptr;
    FanOut queued_, large_;
    size_t queued_bytes_ = 0;
    uint32_t sequence_ = 0;
    bool corked_ = false;  // by the batch that is being delivered
};

}  // namespace uwserve
