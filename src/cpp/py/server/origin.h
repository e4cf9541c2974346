// The origin of an exception of user code: the handler or hook that was called.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace uwserve {

enum class Origin : uint8_t {
    // Counted under their names (handler_errors.h). kError is either hook of that name, kFetch any handler of a
    // request.
    kOpen,
    kMessage,
    kClose,
    kDrain,
    kPing,
    kPong,
    kError,
    kFetch,
    kStream,
    kCallSoon,
    kOther,
    // Counted as kOther.
    kConnectionLog,
    kMessagesIterator,
    kPostedWork,
    kRefusalReport,
    kRequest,
    kSend,
    kStop,
    kTask,
    kUpgrade,
    kWaiter,
};

// As users see them: in logs, in the names of Tasks, and as keys of the statistics.
constexpr auto kOriginNames = std::to_array<std::string_view>(
    {"open", "message",  "close",  "drain",   "ping",    "pong", "error", "fetch", "stream",  "call_soon", "other",
     "log",  "messages", "posted", "refused", "request", "send", "stop",  "task",  "upgrade", "waiting"});
constexpr size_t kCountedOrigins = static_cast<size_t>(Origin::kOther) + 1;
static_assert(kOriginNames.size() == static_cast<size_t>(Origin::kWaiter) + 1);

constexpr const char *name_of(Origin origin) { return kOriginNames[static_cast<size_t>(origin)].data(); }

// The counted origin of that name; kOther if there is none.
constexpr Origin origin_named(std::string_view name) {
    size_t i = 0;
    while (i < kCountedOrigins - 1 && kOriginNames[i] != name) i++;
    return static_cast<Origin>(i);
}

}  // namespace uwserve
