#include "topics.h"

#include "ws_deflate.h"

namespace uwserve {

namespace {

// The tree keeps a copy of every message until it is drained; it is drained early past this (defect T7).
constexpr size_t kMaxQueuedBytes = 1u << 20;

// Upstream hands its messages' opcode back to us alone. The message's number travels in the bits above it.
static_assert(sizeof(uWS::TopicTreeMessage::opCode) == 4);
int with_sequence(uWS::OpCode opcode, uint32_t sequence) { return static_cast<int>(sequence << 4 | opcode); }

}  // namespace

std::optional<std::string_view> FanOut::compressed(Codecs &codecs, std::string_view message, uint32_t sequence,
                                                   unsigned window) {
    uint64_t key = static_cast<uint64_t>(sequence) << 4 | Codecs::window_for(message.size(), window);
    try {
        auto [form, is_new] = forms_.try_emplace(key);
        if (is_new) {
            if (auto packed = codecs.deflate(message, window)) form->second = *packed;
        }
        if (form->second.empty()) return std::nullopt;
        return form->second;
    } catch (const std::bad_alloc &) {
        return std::nullopt;  // plain, then
    }
}

void Topics::install(App &app) {
    uWS::Loop *loop = uWS::Loop::get();
    if (app.topicTree) {  // some versions make one at once
        loop->removePostHandler(app.topicTree);
        loop->removePreHandler(app.topicTree);
        delete app.topicTree;
    }
    tree_ = new TopicTree([this](uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message,
                                 TopicTree::IteratorFlags flags) { return deliver(subscriber, message, flags); });
    app.topicTree = tree_;
    // App takes these back under the same key.
    loop->addPostHandler(tree_, [this](uWS::Loop *) {
        drain();
        codecs_.trim();
    });
    loop->addPreHandler(tree_, [this](uWS::Loop *) { drain(); });
}

void Topics::publish(uWS::Subscriber *except, std::string_view topic, std::string_view message, uWS::OpCode opcode,
                     bool compress) {
    tree_->publish(except, topic, {std::string(message), with_sequence(opcode, next_sequence()), compress});
    queued_bytes_ += message.size();
    if (queued_bytes_ > kMaxQueuedBytes) drain();
}

void Topics::drain() {
    tree_->drain();
    queued_.clear();
    queued_bytes_ = 0;
}

Socket::SendStatus Topics::send_message_to(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                           uint32_t sequence) {
    return send_message(reinterpret_cast<Socket *>(s), message, opcode, compress, &large_, sequence);
}

// One message of a subscriber's batch. False: go on with the next.
bool Topics::deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags) {
    auto *ws = static_cast<Socket *>(subscriber->user);
    auto *async = reinterpret_cast<uWS::AsyncSocket<false> *>(ws);
    if (flags & TopicTree::IteratorFlags::FIRST) {
        corked_ = !loop_data(raw(ws)->context->loop)->corkedSocket;
        if (corked_) AsyncSocketDoor::cork(async);
    }
    auto opcode = static_cast<uWS::OpCode>(message.opCode & 15);
    auto sequence = static_cast<uint32_t>(message.opCode) >> 4;
    // Each message is judged by itself: a drop says nothing about the next.
    Socket::SendStatus status = send_message(ws, message.message, opcode, message.compress, &queued_, sequence);
    limits_.sent(raw(ws), opcode, message.message.size(), status);
    if (corked_ && (flags & TopicTree::IteratorFlags::LAST)) {
        corked_ = false;
        AsyncSocketDoor::uncork(async);
    }
    return false;
}

}  // namespace uwserve
