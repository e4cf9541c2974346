// Server.publish and Server.subscriber_count; raw, because they are hot.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kServerTopicMethods[];

}  // namespace uwserve
