// Methods of a ServerWebSocket that send to its peer: send, send_text, send_binary, ping, pong.
//
// They return (as Bun's): the payload's bytes; -1: queued with backpressure; 0: dropped, closed, or an empty frame was
// sent.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kSendMethods[];

}  // namespace uwserve
