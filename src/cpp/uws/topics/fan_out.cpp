#include "uws/topics/fan_out.h"

#include <algorithm>

#include "uws/deflate/per_message.h"

namespace uwserve {

namespace {

// Only code of ours reads the opcode of a message in the tree, so the bits above it carry the message's number.
static_assert(sizeof(uWS::TopicTreeMessage::opCode) == 4);
int with_sequence(uWS::OpCode opcode, uint32_t sequence) { return static_cast<int>(sequence << 4 | opcode); }
uWS::OpCode opcode_of(const uWS::TopicTreeMessage &message) { return static_cast<uWS::OpCode>(message.opCode & 15); }
uint32_t sequence_of(const uWS::TopicTreeMessage &message) { return static_cast<uint32_t>(message.opCode) >> 4; }

// The stream that compresses this message for this socket, or nullptr.
uWS::DeflationStream *deflation_of(Socket *ws, const uWS::TopicTreeMessage &message) {
    uWS::DeflationStream *stream = message.compress ? WebSocketAccess::deflation(websocket_data(raw(ws))) : nullptr;
    return stream && stream->settings.send_window && !message.message.empty() ? stream : nullptr;
}
// A stream with a context must compress the messages in the order in which the kernel gets them.
bool has_context(const uWS::DeflationStream *stream) { return stream && stream->settings.send_memory; }

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
        return std::nullopt;  // sent uncompressed
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
    // App removes these handlers under the same key.
    loop->addPostHandler(tree_, [this](uWS::Loop *) {
        drain();
        codecs_.trim();
    });
    loop->addPreHandler(tree_, [this](uWS::Loop *) { drain(); });
}

void Topics::publish(uWS::Subscriber *except, const uWS::Topic &topic, std::string message, uWS::OpCode opcode,
                     bool compress, std::span<uWS::Subscriber *const> refused) {
    const size_t size = message.size() + kLongestHeader;
    sequence_ = (sequence_ + 1) & 0x7FFFFFF;
    try {
        tree_->publish(except, topic.name, {std::move(message), with_sequence(opcode, sequence_), compress});
    } catch (const std::bad_alloc &) {
        // uWebSockets has given every subscriber the index of the message, but has no memory to keep the message.
        for (uWS::Subscriber *subscriber : topic) {
            if (subscriber != except) TopicTreeAccess::take_back(subscriber);
        }
        drain_all();  // which also removes subscribers with an empty queue
        throw;
    }
    // The tree queues the message for every subscriber. A refused one has no other queued, and discards it at once.
    for (uWS::Subscriber *subscriber : refused) {
        discards_ = true;
        tree_->drain(subscriber);
        discards_ = false;
    }
    queued_bytes_ += size;
    pending_bytes_ += size * (topic.size() - refused.size());
    num_queued_++;
    if (queued_bytes_ > kMaxQueued) drain();
}

void Topics::drain_all() {
    tree_->drain();
    forms_.clear();
    queued_bytes_ = pending_bytes_ = num_queued_ = 0;
}

// uWebSockets makes the topic, adds it to the subscriber, and then adds the subscriber to the topic. If memory runs out
// in between, a later call that looks at one side only would free an object to which the other side still refers.
void Topics::subscribe(Socket *ws, std::string_view topic) {
    if (!reserved_node_) {
        std::set<uWS::Topic *> one{nullptr};
        reserved_node_ = one.extract(one.begin());
    }
    try {
        ws->subscribe(topic);
    } catch (const std::bad_alloc &) {
        uWS::Subscriber *subscriber = subscriber_of(ws);
        uWS::Topic *made = tree_->lookupTopic(topic);
        if (subscriber && made && !made->count(subscriber)) {
            if (!subscriber->topics.count(made)) {
                reserved_node_.value() = made;
                subscriber->topics.insert(std::move(reserved_node_));
            }
            tree_->unsubscribe(subscriber, topic);  // undoes both, and removes a topic without subscribers
        }
        throw;
    }
}

// uWebSockets frees a subscriber without topics together with its queued messages (defect T1), so they are sent first.
bool Topics::unsubscribe(Socket *ws, std::string_view topic) {
    if (uWS::Subscriber *subscriber = subscriber_of(ws)) {
        tree_->drain(subscriber);
        limits_.stats.topics.leaves(subscriber, tree_->lookupTopic(topic));
    }
    return ws->unsubscribe(topic);
}

std::vector<std::string> Topics::subscriptions(Socket *ws) {
    std::vector<std::string> names;
    for (const uWS::Topic *topic : topics_of(ws)) names.emplace_back(topic->name);
    std::sort(names.begin(), names.end());
    return names;
}

size_t Topics::subscriber_count(std::string_view topic) const {
    uWS::Topic *found = tree_->lookupTopic(topic);
    return found ? found->size() : 0;
}

// In line, because a call costs a small message too much.
[[gnu::always_inline]] inline void Topics::send_one(Socket *ws, uWS::TopicTreeMessage &message) {
    const uWS::OpCode opcode = opcode_of(message);
    const size_t size = message.message.size();
    const Socket::SendStatus status =
        send_or_end(ws, message.message, opcode, message.compress, forms_, sequence_of(message));
    limits_.sent(raw(ws), opcode, size, status);
}

// Sends one queued message to a subscriber. False: the tree goes on with the next.
bool Topics::deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags) {
    if (discards_) [[unlikely]]
        return true;
    auto *ws = static_cast<Socket *>(subscriber->user);
    auto *async = reinterpret_cast<uWS::AsyncSocket<false> *>(ws);
    if (flags & TopicTree::IteratorFlags::FIRST) {
        is_corked_ = !loop_data(raw(ws)->context->loop)->corkedSocket;
        if (is_corked_) AsyncSocketAccess::cork(async);
    }
    const bool is_last = flags & TopicTree::IteratorFlags::LAST;
    if (!write_.is_open() && !is_last && !fits_cork(raw(ws), message.message.size())) [[unlikely]] {
        if (!has_context(deflation_of(ws, message))) write_.open(ws);
    }
    if (!write_.is_open() || !gather(ws, message)) [[likely]]
        send_one(ws, message);
    if (is_last) {
        if (write_.is_open()) flush_gathered();
        if (is_corked_) {
            is_corked_ = false;
            AsyncSocketAccess::uncork(async);
        }
    }
    return false;
}

// Adds a message to the open write. False: the write is flushed, and the caller sends the message by itself.
[[gnu::noinline]] bool Topics::gather(Socket *ws, uWS::TopicTreeMessage &message) {
    std::string_view payload = message.message;
    size_t compressed_size = 0;
    if (uWS::DeflationStream *stream = deflation_of(ws, message)) {
        if (has_context(stream)) {
            flush_gathered();
            return false;
        }
        if (auto form =
                forms_.compressed(*stream->codecs, payload, sequence_of(message), stream->settings.send_window)) {
            payload = *form;
            compressed_size = payload.size();
        }
    }
    if (!write_.add(payload, opcode_of(message), compressed_size != 0)) {
        flush_gathered();
        return false;
    }
    gathered_[num_gathered_++] = {&message, compressed_size};
    return true;
}

[[gnu::noinline]] void Topics::flush_gathered() {
    Socket *ws = write_.socket();
    auto [whole, split] = write_.flush();
    const size_t sent = whole + split, num = num_gathered_;
    num_gathered_ = 0;
    for (size_t i = 0; i < sent; i++) {
        auto [message, compressed_size] = gathered_[i];
        limits_.stats.sent[opcode_of(*message)].add(message->message.size());
        if (compressed_size) limits_.stats.sent.add_compressed(message->message.size(), compressed_size);
    }
    if (split) limits_.stats.backpressured.add();
    for (size_t i = sent; i < num; i++) send_one(ws, *gathered_[i].message);
}

}  // namespace uwserve
