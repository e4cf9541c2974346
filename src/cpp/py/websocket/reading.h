// Pausing the reads of a socket whose queue is full, and resuming them.
#pragma once

#include <string_view>

#include "py/websocket/object.h"

namespace uwserve {

struct ReadPause {
    bool is_on = false;  // for US_PAUSE_QUEUE
    bool is_ending = false;  // continue_reading() was posted
};

// Loop thread, GIL.
void pause_reading(WsQueue &queue, us_socket_t *s);
void keep_unparsed(WsObject *handle, std::string_view rest);
// Reads on, if the queue has room and nothing else keeps the socket from it. Any thread, GIL.
void continue_reading(WsObject *handle);

}  // namespace uwserve
