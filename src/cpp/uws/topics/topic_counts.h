// Counts how often each topic was published to, from its first publish on.
//
// A topic exists while it has a subscriber: uWebSockets frees it with the last one. Code that removes a subscriber from
// topics calls this class first. So no entry outlives its topic, and the existing topics bound the memory. Keys are
// compared, never dereferenced. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace uWS {
struct Subscriber;
struct Topic;
}  // namespace uWS

namespace uwserve {

class TopicCounts {
  public:
    void count(const uWS::Topic *topic) {
        if (topic != last_ && !find(topic)) [[unlikely]]
            return;
        ++*last_count_;
    }
    uint64_t of(const uWS::Topic *topic) const {
        auto found = counts_.find(topic);
        return found == counts_.end() ? 0 : found->second;
    }
    // The subscriber (nullptr: there is none) is about to leave this topic, or all of its topics.
    void leaves(uWS::Subscriber *subscriber, uWS::Topic *topic);
    void leaves_all(uWS::Subscriber *subscriber);
    size_t size() const { return counts_.size(); }

  private:
    bool find(const uWS::Topic *topic);  // false: there is no memory, so the publish is not counted
    void forget(const uWS::Topic *topic);

    std::unordered_map<const uWS::Topic *, uint64_t> counts_;
    const uWS::Topic *last_ = nullptr;  // the topic counted last, and its entry
    uint64_t *last_count_ = nullptr;
};

}  // namespace uwserve
