// Replaces AsyncSocketData.h of uWebSockets, under its include guard: the memory part of defect S9
// (upstream/send_buffer.h). It defines the names that the other headers of version 20.44 and of newer ones use.
#pragma once

#ifdef UWS_ASYNCSOCKETDATA_H
#error "uwebsockets.h must be included before any header of uWebSockets"
#endif
#define UWS_ASYNCSOCKETDATA_H

#include "uws/upstream/send_buffer.h"

namespace uWS {

struct BackPressure : uwserve::SendBuffer {
    size_t totalLength() const { return shown_length(); }
};

// The first part of the data that uWebSockets keeps for every connection.
template <bool SSL>
struct AsyncSocketData {
    AsyncSocketData() = default;
    AsyncSocketData(BackPressure &&backlog) : buffer(std::move(backlog)) {}

    BackPressure buffer;
};

}  // namespace uWS
