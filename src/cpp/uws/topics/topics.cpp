#include "uws/topics/topics.h"

#include <algorithm>

#include "uws/deflate/per_message.h"

namespace uwserve {

namespace {

// uWebSockets hands its messages' opcode back to us alone. The message's number travels in the bits above it.
static_assert(sizeof(uWS::TopicTreeMessage::opCode) == 4);
int with_sequence(uWS::OpCode opcode, uint32_t sequence) { return static_cast<int>(sequence << 4 | opcode); }
uWS::OpCode opcode_of(const uWS::TopicTreeMessage &message) { return static_cast<uWS::OpCode>(message.opCode & 15); }
uint32_t sequence_of(const uWS::TopicTreeMessage &message) { return static_cast<uint32_t>(message.opCode) >> 4; }

// A stream with a context of its own compresses message after message, and sees what the kernel gets.
uWS::DeflationStream *deflation_of(Socket *ws, const uWS::TopicTreeMessage &message) {
    uWS::DeflationStream *stream = message.compress ? WebSocketAccess::deflation(websocket_data(raw(ws))) : nullptr;
    return stream && stream->settings.send_window && !message.message.empty() ? stream : nullptr;
}
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

void Topics::publish(uWS::Subscriber *except, const uWS::Topic &topic, std::string message, uWS::OpCode opcode,
                     bool compress, std::span<uWS::Subscriber *const> refused) {
    const size_t size = message.size() + kLongestHeader;
    try {
        tree_->publish(except, topic.name, {std::move(message), with_sequence(opcode, next_sequence()), compress});
    } catch (const std::bad_alloc &) {
        // uWebSockets has noted it for every subscriber, and finds no memory to keep it: their notes would point
        // nowhere.
        for (uWS::Subscriber *subscriber : topic) {
            if (subscriber != except) TopicTreeAccess::take_back(subscriber);
        }
        drain_all();  // which also removes subscribers with an empty queue
        throw;
    }
    // The tree gives it to every subscriber; from these it is taken at once, as the one message that they have queued.
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
    queued_.clear();
    queued_bytes_ = pending_bytes_ = num_queued_ = 0;
}

Socket::SendStatus Topics::send_message_to(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                           uint32_t sequence) {
    return send_message(reinterpret_cast<Socket *>(s), message, opcode, compress, &large_, sequence);
}

Socket::SendStatus Topics::send_whole(us_socket_t *s, std::string_view message, uWS::OpCode opcode, bool compress,
                                      uint32_t sequence) {
    try {
        return send_message_to(s, message, opcode, compress, sequence);
    } catch (const std::bad_alloc &) {
        drop_corked(s);
        us_socket_shutdown_read(0, s);  // half a frame may be gone: only this connection ends
        return Socket::DROPPED;
    }
}

// uWebSockets makes the topic, notes it with the subscriber, and then the subscriber with the topic. Where memory runs
// out in between, the next of its calls that looks at one side only would free what the other still refers to.
void Topics::subscribe(Socket *ws, std::string_view topic) {
    if (!spare_note_) {
        std::set<uWS::Topic *> one{nullptr};
        spare_note_ = one.extract(one.begin());
    }
    try {
        ws->subscribe(topic);
    } catch (const std::bad_alloc &) {
        uWS::Subscriber *subscriber = subscriber_of(ws);
        uWS::Topic *made = tree_->lookupTopic(topic);
        if (subscriber && made && !made->count(subscriber)) {
            if (!subscriber->topics.count(made)) {
                spare_note_.value() = made;
                subscriber->topics.insert(std::move(spare_note_));
            }
            tree_->unsubscribe(subscriber, topic);  // undoes both, and removes a topic without subscribers
        }
        throw;
    }
}

// uWebSockets frees the subscriber of a last topic with the messages that are queued for it (defect T1).
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

// In line: small messages pay for every call.
[[gnu::always_inline]] inline void Topics::send_one(Socket *ws, uWS::TopicTreeMessage &message) {
    us_socket_t *s = raw(ws);
    const uWS::OpCode opcode = opcode_of(message);
    const size_t size = message.message.size();
    Socket::SendStatus status = Socket::DROPPED;
    try {
        status = send_message(ws, message.message, opcode, message.compress, &queued_, sequence_of(message));
    } catch (const std::bad_alloc &) {
        drop_corked(s);
        us_socket_shutdown_read(0, s);  // half a frame may be gone: only this connection ends
    }
    limits_.sent(s, opcode, size, status);
}

// One message of those that a subscriber is to get. False: go on with the next.
bool Topics::deliver(uWS::Subscriber *subscriber, uWS::TopicTreeMessage &message, int flags) {
    if (discards_) [[unlikely]]
        return true;
    auto *ws = static_cast<Socket *>(subscriber->user);
    auto *async = reinterpret_cast<uWS::AsyncSocket<false> *>(ws);
    if (flags & TopicTree::IteratorFlags::FIRST) {
        corked_ = !loop_data(raw(ws)->context->loop)->corkedSocket;
        if (corked_) AsyncSocketAccess::cork(async);
    }
    const bool is_last = flags & TopicTree::IteratorFlags::LAST;
    if (!batch_.is_open() && !is_last && !fits_cork(raw(ws), message.message.size())) [[unlikely]] {
        if (!has_context(deflation_of(ws, message))) batch_.open(ws);
    }
    if (!batch_.is_open() || !gather(ws, message)) [[likely]]
        send_one(ws, message);
    if (is_last) {
        if (batch_.is_open()) flush_batch();
        if (corked_) {
            corked_ = false;
            AsyncSocketAccess::uncork(async);
        }
    }
    return false;
}

// Adds a message to the open batch. False: the batch is flushed, and the message goes by itself.
[[gnu::noinline]] bool Topics::gather(Socket *ws, uWS::TopicTreeMessage &message) {
    std::string_view payload = message.message;
    size_t compressed_size = 0;
    if (uWS::DeflationStream *stream = deflation_of(ws, message)) {
        if (has_context(stream)) {
            flush_batch();
            return false;
        }
        if (auto form =
                queued_.compressed(*stream->codecs, payload, sequence_of(message), stream->settings.send_window)) {
            payload = *form;
            compressed_size = payload.size();
        }
    }
    if (!batch_.add(payload, opcode_of(message), compressed_size != 0)) {
        flush_batch();
        return false;
    }
    gathered_[num_gathered_++] = {&message, compressed_size};
    return true;
}

[[gnu::noinline]] void Topics::flush_batch() {
    Socket *ws = batch_.socket();
    auto [whole, split] = batch_.flush();
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
