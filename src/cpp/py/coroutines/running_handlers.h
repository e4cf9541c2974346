// Running handlers: their coroutines have suspended and not ended. A peer can start one with each frame that it sends,
// so their number is bounded, and their messages are charged to the server's buffered bytes.
//
// The bound of a connection is options.max_concurrent_handlers, or kMaxHeldBytes of messages, whichever is reached
// first. Then the connection is *crowded* until a handler has ended: its socket is not read, and events that arrive
// nevertheless are queued (websocket/queue.h). `open` and `close` run once for each connection: they are counted, but
// not bounded, so `async for message in ws.messages()` in `open` never stops its own messages, and `close` always runs.
//
// The bound of the server is limits.max_concurrent_handlers, or max_buffered_bytes. The first handler of each open
// connection is not counted, because connections have a limit of their own. So beyond the bound every connection still
// makes progress, with one handler at a time: a WebSocket is crowded when it starts a handler. A request is answered
// with 503 only when that many handlers have lost their connection, because each request could leave another such
// handler.
//
// Counting begins when a coroutine becomes a Task: handlers that do not suspend pay three instructions. Everything here
// needs the GIL. began() and socket_closed() run on the loop's thread, ended() on any: a Task may be freed on any
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>

#include "py/interpreter/ref.h"
#include "py/server/origin.h"
#include "uws/loop/timer.h"

namespace uwserve {

class ServerCore;
struct WsObject;

// The message bytes that a Task holds, and how the Task is counted; all zero: it is not.
struct RunningHandler {
    enum class Kind : uint8_t { kNone, kRequest, kOnce, kEvent };
    size_t bytes;
    Kind kind;
};

class RunningHandlers {
  public:
    static constexpr size_t kMaxHeldBytes = 1u << 20;

    explicit RunningHandlers(ServerCore &core) : core_(core) {}

    // Around the first step of a handler's coroutine: the argument that it holds if it suspends. NULL: none.
    class Argument {
      public:
        Argument(RunningHandlers &owner, PyObject *argument)
            : owner_(owner), before_(std::exchange(owner.argument_, argument)) {}
        ~Argument() { owner_.argument_ = before_; }

      private:
        RunningHandlers &owner_;
        PyObject *before_;
    };

    void began(RunningHandler &handler, WsObject *ws, Origin origin);
    void ended(RunningHandler &handler, WsObject *ws);
    void socket_closed(WsObject *ws);
    // The options or limits have changed.
    void limits_changed();
    // Whether the request that is being dispatched must be refused, for the bound of the server.
    bool refuses_requests() const;

    uint64_t running() const { return running_; }
    uint64_t total() const { return total_; }
    uint64_t bytes() const { return bytes_; }
    uint64_t paused() const { return paused_; }

    int traverse(visitproc visit, void *arg);
    void clear();

    // Before the instance goes; in the child of a fork.
    void close_timer();
    void abandon_timer() { timer_.abandon(); }

  private:
    bool is_server_full(bool counts_bytes) const;
    uint64_t orphans(uint64_t beginning) const;
    bool is_over(WsObject *ws, bool *for_server) const;
    void crowd(WsObject *ws);
    bool get_in_line(WsObject *ws);
    void drop_closed();
    void reconsider(WsObject *ws);
    void reconsider_waiting(size_t at_most);
    void arm_timer();
    void on_timer();

    ServerCore &core_;
    PyObject *argument_ = nullptr;  // borrowed
    uint64_t running_ = 0, total_ = 0, bytes_ = 0, paused_ = 0;
    uint64_t extra_ = 0;  // of open WebSockets, without the first of each
    uint64_t orphans_ = 0;  // of closed WebSockets
    uint64_t requests_ = 0;  // of requests: those over the number of pending requests have lost their connection
    // Sockets that the server's bound has crowded, the oldest first, each once. While the server is full, some may not
    // be crowded any more. Closed sockets are never more than the others, but for a few.
    std::deque<Ref> waiting_;
    size_t closed_ = 0;  // closed sockets in waiting_
    Timer timer_;  // opened when it is first needed
    bool is_polling_ = false;
};

}  // namespace uwserve
