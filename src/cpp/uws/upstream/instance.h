// One server's uWebSockets: its own loop, App and contexts, with HttpConnections and Lifecycle installed.
//
// uWS::Loop::get() ties a loop to the thread that first asks for it. An Instance's loop belongs to the Instance instead
// and may run on any one thread at a time: while it is made and destroyed, uWebSockets finds it, or no loop, as the
// thread's.
#pragma once

#include <memory>

#include "uws/http/connections.h"
#include "uws/topics/publisher.h"
#include "uws/websocket/lifecycle.h"

namespace uwserve {

class Instance {
  public:
    // nullptr with errno when the loop's descriptors could not be made; throws std::bad_alloc.
    static std::unique_ptr<Instance> create(WsHandler &ws_handler, HttpHandler &http_handler, Limits &limits);
    ~Instance();
    Instance(const Instance &) = delete;
    Instance &operator=(const Instance &) = delete;

    us_loop_t *loop() const { return loop_; }
    us_socket_context_t *http_context() const { return http_; }
    us_socket_context_t *ws_context() const { return ws_; }
    template <typename F>
    void for_each_websocket(F visit) {
        us_socket_context_each(ws_, [](us_socket_t *s, void *visit) {
            (*static_cast<F *>(visit))(reinterpret_cast<Socket *>(s));
        }, &visit);
    }
    // After an exception at the top of a turn.
    void uncork_failed() { on_failure(loop_); }
    Topics &topics() { return topics_; }
    const Codecs &codecs() const { return codecs_; }
    HttpConnections &connections() { return connections_; }
    Lifecycle &lifecycle() { return lifecycle_; }
    Sender &sender() { return sender_; }
    Publisher &publisher() { return publisher_; }
    // In a forked child: closes our copies of descriptors and touches nothing the parent shares. The rest is leaked by
    // the owner: uWebSockets' destructors were written for the process that made it.
    void abandon();

  private:
    Instance(WsHandler &ws_handler, HttpHandler &http_handler, Limits &limits)
        : connections_(http_handler, limits),
          topics_(codecs_, limits),
          sender_(limits, topics_),
          publisher_(limits, topics_, sender_, ws_handler) {}
    void build(WsHandler &handler);
    static void on_failure(void *loop);

    us_loop_t *loop_ = nullptr;
    App *app_ = nullptr;
    us_socket_context_t *http_ = nullptr, *ws_ = nullptr;
    HttpConnections connections_;
    Lifecycle lifecycle_;
    Codecs codecs_;
    Topics topics_;
    Sender sender_;
    Publisher publisher_;
};

}  // namespace uwserve
