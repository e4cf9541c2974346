// What uWebSockets finds instead of its own AsyncSocketData.h: this file takes that header's include guard. The names
// are those that its other headers use, of version 20.44 and of newer ones.
//
// Removes S9 of the defects (its memory part), and what newer versions made of it: see upstream/send_buffer.h.
#pragma once

#ifdef UWS_ASYNCSOCKETDATA_H
#error "uwebsockets.h must be included before any header of uWebSockets"
#endif
#define UWS_ASYNCSOCKETDATA_H

#include <string>

#include "uws/upstream/send_buffer.h"

namespace uWS {

struct BackPressure : uwserve::SendBuffer {
    size_t totalLength() const { return shown_length(); }
};

// The beginning of what uWebSockets keeps of every connection.
template <bool SSL>
struct AsyncSocketData {
    AsyncSocketData() = default;
    AsyncSocketData(BackPressure &&backlog) : buffer(std::move(backlog)) {}

    BackPressure buffer;
};

}  // namespace uWS
