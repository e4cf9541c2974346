#include "uws/topics/topic_figures.h"

#include <algorithm>
#include <new>
#include <unordered_set>

namespace uwserve {

// uWebSockets does not list its topics, but each topic has a subscriber.
std::vector<TopicFigures> figures_of_topics(Instance &instance) {
    const TopicCounts &counts = instance.connections().limits().stats.topics;
    std::unordered_set<const uWS::Topic *> seen;
    std::vector<TopicFigures> figures;
    bool has_failed = false;
    instance.for_each_websocket([&](Socket *ws) {
        try {
            for (const uWS::Topic *topic : topics_of(ws)) {
                if (seen.insert(topic).second) figures.push_back({topic->name, topic->size(), counts.of(topic)});
            }
        } catch (const std::bad_alloc &) {  // must not pass through the socket layer
            has_failed = true;
        }
    });
    if (has_failed) throw std::bad_alloc();
    std::sort(figures.begin(), figures.end(),
              [](const TopicFigures &a, const TopicFigures &b) { return a.name < b.name; });
    return figures;
}

std::vector<Socket *> subscribers_of(Instance &instance, std::string_view topic) {
    std::vector<Socket *> sockets;
    uWS::Topic *found = instance.topics().tree()->lookupTopic(topic);
    if (!found) return sockets;
    for (uWS::Subscriber *subscriber : *found) sockets.push_back(static_cast<Socket *>(subscriber->user));
    return sockets;
}

}  // namespace uwserve
