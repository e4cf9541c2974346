#include "uws/topics/topic_counts.h"

#include <new>

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

bool TopicCounts::find(const uWS::Topic *topic) {
    try {
        last_count_ = &counts_[topic];  // entries stay where they are
        last_ = topic;
        return true;
    } catch (const std::bad_alloc &) {
        return false;
    }
}

void TopicCounts::forget(const uWS::Topic *topic) {
    if (topic == last_) last_ = nullptr;
    counts_.erase(topic);
}

void TopicCounts::leaves(uWS::Subscriber *subscriber, uWS::Topic *topic) {
    if (subscriber && topic && topic->size() == 1 && topic->count(subscriber)) forget(topic);
}

void TopicCounts::leaves_all(uWS::Subscriber *subscriber) {
    if (!subscriber || counts_.empty()) return;
    for (const uWS::Topic *topic : subscriber->topics) {
        if (topic->size() == 1) forget(topic);
    }
}

}  // namespace uwserve
