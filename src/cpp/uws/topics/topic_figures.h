// The topics of a server for its statistics, and the sockets of one topic. Loop thread only; calls no user code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "uws/upstream/instance.h"

namespace uwserve {

struct TopicFigures {
    std::string name;
    uint64_t subscribers, publishes;
};

// By name. Throws std::bad_alloc.
std::vector<TopicFigures> figures_of_topics(Instance &instance);

// In no order. Throws std::bad_alloc.
std::vector<Socket *> subscribers_of(Instance &instance, std::string_view topic);

}  // namespace uwserve
