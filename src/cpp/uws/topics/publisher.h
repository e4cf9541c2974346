// A message to all subscribers of a topic, with an answer that is true when it is given: each subscriber's copy is
// admitted or refused at once, by the judge of the Sender, and never later. Most copies cost nothing: a socket without
// a backlog has room for what topics hold for it, as long as that is no more than its limit. Before it would be more,
// the topics are drained.
//
// Messages go through the tree of topics, which keeps them until the end of the iteration, so that each subscriber gets
// all of them with one system call; large ones that gain nothing by it are written to each subscriber at once, each
// under its own limit (defect S7). A long fan-out lets the layer above do other work on other threads
// (WsHandler::long_work_begins). Loop thread only.
#pragma once

#include "uws/websocket/handler.h"
#include "uws/websocket/backpressure.h"

namespace uwserve {

class Publisher {
  public:
    Publisher(Limits &limits, Topics &topics, Sender &sender, WsHandler &handler)
        : limits_(limits), topics_(topics), sender_(sender), handler_(handler) {}

    // kDropped: no subscriber, or a copy was dropped; kQueued: at least one waits for its peer. `from`: the socket that
    // publishes, or nullptr; it gets a copy only if the options say so. Throws std::bad_alloc.
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
