// Methods of a ServerWebSocket that concern topics: publish, subscribe, unsubscribe, is_subscribed.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kTopicMethods[];

}  // namespace uwserve
