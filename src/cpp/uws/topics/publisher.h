// Publishes a message to all subscribers of a topic. The result is final: each subscriber's copy is admitted or refused
// at once, by the judge of the Sender, and not judged again. Most copies need no check: a socket without a backlog has
// room for its queued messages, as long as their bytes are within its limit. The topics are drained before they exceed
// it.
//
// The tree of topics queues messages until the end of the iteration, so that each subscriber gets all of them with one
// system call. A large message that gains nothing from this is written to each subscriber at once, under its own limit
// (defect S7). During a long fan-out, other threads of the layer above may run (WsHandler::long_work_begins). Loop
// thread only.
#pragma once

#include "uws/websocket/handler.h"
#include "uws/websocket/backpressure.h"

namespace uwserve {

class Publisher {
  public:
    Publisher(Limits &limits, Topics &topics, Sender &sender, WsHandler &handler)
        : limits_(limits), topics_(topics), sender_(sender), handler_(handler) {}

    // kDropped: no subscriber, or a copy was dropped; kQueued: at least one copy waits for its peer. `from`: the socket
    // that publishes, or nullptr; it gets a copy only if the options say so. Throws std::bad_alloc.
    SendResult publish(us_loop_t *loop, Socket *from, std::string_view topic, std::string_view message, Opcode opcode,
                       bool compress);

  private:
    struct Publication;

    Limits &limits_;
    Topics &topics_;
    Sender &sender_;
    WsHandler &handler_;
};

}  // namespace uwserve
