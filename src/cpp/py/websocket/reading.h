// Pausing the reads of a socket whose queue is full, and resuming them (uws/websocket/queue_pause.h).
#pragma once

#include "py/websocket/object.h"

namespace uwserve {

struct ReadPause {
    bool is_on = false;
    bool is_ending = false;  // continue_reading() was posted
};

// Loop thread, GIL.
void pause_reading(WsObject *handle);
void keep_unparsed(WsObject *handle, std::string_view rest);
// Reads on, if the queue has room and nothing else keeps the socket paused. Any thread, GIL.
void continue_reading(WsObject *handle);

}  // namespace uwserve
