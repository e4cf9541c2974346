// The uWebSockets of one server: its own loop, App and contexts, with HttpConnections and Lifecycle installed.
//
// uWS::Loop::get() ties a loop to the thread that calls it first. The loop of an Instance belongs to the Instance
// instead, and may run on any one thread at a time: while the Instance is made and destroyed, its loop, or none, is the
// thread's.
#pragma once

#include <memory>

#include "uws/http/connections.h"
#include "uws/http/listeners.h"
#include "uws/http/settings.h"
#include "uws/tls/config.h"
#include "uws/topics/publisher.h"
#include "uws/websocket/lifecycle.h"
#include "usockets/loop/embedding.h"
#include "usockets/tcp/context.h"

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
    template <typename F>
    void for_each_http_connection(F visit) {
        us_socket_context_each(http_, [](us_socket_t *s, void *visit) {
            if (auto *conn = static_cast<HttpConnection *>(s->user)) (*static_cast<F *>(visit))(*conn);
        }, &visit);
    }

    // --- settings ---
    // Puts these, and those that Limits keeps, into effect.
    void apply_settings(const HttpSettings &http);
    // For new connections. The first call, before the server listens, turns it into one that speaks TLS.
    void set_tls(const TlsConfig &config) { us_socket_context_set_tls(http_, config.get()); }

    // Calls f at the top of the next turn. Any thread; wakes the loop.
    template <typename F>
    void defer(F f) {
        reinterpret_cast<uWS::Loop *>(loop_)->defer(std::move(f));
    }
    void close_http_connections() { us_socket_context_close(0, http_); }
    void close_websockets() { us_socket_context_close(0, ws_); }

    // --- the loop ---
    // One turn, which waits for `milliseconds` (-1: for any event).
    void iterate(int milliseconds) { us_loop_iterate(loop_, milliseconds); }
    int last_events() const { return us_loop_last_events(loop_); }
    void wake_up() { us_wakeup_loop(loop_); }  // any thread
    int descriptor() const { return us_loop_fd(loop_); }  // readable when a turn has something to do
    void integrate() { us_loop_integrate(loop_); }
    // The member of `owner` is called where the loop's thread no longer needs its caller's lock: before it waits, and
    // before it drains topics.
    template <auto member, typename Owner>
    void on_release(Owner *owner) {
        us_loop_on_release(loop_, [](void *user) { (static_cast<Owner *>(user)->*member)(); }, owner);
    }
    // Listeners, connections, timers of ours and holds: without any of them a run is over.
    bool has_work() const { return loop_->num_polls > 0; }
    void hold_open() { loop_->num_polls++; }
    void release_hold() { loop_->num_polls--; }
    bool is_in_callback() const { return loop_->depth > 0; }
    // Around calls into the instance from outside a callback: close events in between are deferred to leave(), or with
    // leave_later() to the next turn. The loop is woken if there is work for a turn.
    void enter() { us_loop_enter(loop_); }
    void leave() {
        us_loop_leave(loop_);
        if (us_loop_needs_turn(loop_)) us_wakeup_loop(loop_);
    }
    void leave_later() {
        us_loop_leave_later(loop_);
        if (us_loop_needs_turn(loop_)) us_wakeup_loop(loop_);
    }
    void run_deferred() {
        us_loop_enter(loop_);
        us_loop_leave(loop_);
    }
    // After an exception at the top of a turn.
    void uncork_failed() { on_failure(loop_); }
    Topics &topics() { return topics_; }
    const Codecs &codecs() const { return codecs_; }
    Listeners &listeners() { return listeners_; }
    HttpConnections &connections() { return connections_; }
    Lifecycle &lifecycle() { return lifecycle_; }
    Sender &sender() { return sender_; }
    Publisher &publisher() { return publisher_; }
    // In a forked child: closes its copies of descriptors, and leaves shared state alone. The owner leaks the rest, because
    // destructors of uWebSockets may run in the process that made it only.
    void abandon() { us_loop_abandon(loop_); }

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
    Listeners listeners_;
    us_networks_t proxies_{};  // the trusted proxies, as http_ reads them
    HttpConnections connections_;
    Lifecycle lifecycle_;
    Codecs codecs_;
    Topics topics_;
    Sender sender_;
    Publisher publisher_;
};

}  // namespace uwserve
