#include "uws/websocket/lifecycle.h"

#include <utility>

#include "uws/websocket/close.h"
#include "uws/websocket/receive.h"
#include "uws/websocket/send.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

constexpr std::string_view kBackpressure = "Backpressure limit exceeded";

}  // namespace

void Lifecycle::install(us_socket_context_t *ws_context, HttpConnections *connections, WsHandler *handler) {
    handler_ = handler;
    context_ = ws_context;
    connections_ = connections;
    context_->user = this;
    upstream_ = context_->cb;
    idle_timeout.install(context_);
    us_socket_context_on_data(0, context_, on_data);
    us_socket_context_on_long_timeout(0, context_, on_long_timeout);
    us_socket_context_on_end(0, context_, on_end);
    us_socket_context_on_close(0, context_, on_close);
}

void Lifecycle::set_max_lifetime(unsigned seconds) {
    if (seconds == max_lifetime_) return;
    struct Change {
        unsigned before, now;
    } change{std::exchange(max_lifetime_, seconds), seconds};
    us_socket_context_each(context_, [](us_socket_t *s, void *user) {
        auto [before, now] = *static_cast<Change *>(user);
        if (is_shutting_down(s)) return;
        unsigned left = us_socket_long_left(s);
        if (!now || !left) {
            us_socket_arm_long(s, now ? now - of(s)->spread(now) : 0);
        } else if (left + now > before) {
            us_socket_arm_long(s, left + now - before);
        } else {
            us_socket_arm_long(s, 1 + of(s)->spread(now));
        }
    }, &change);
}

// uWebSockets has armed the idle timeout, but without effect if another connection's on_writable is on the stack.
void Lifecycle::opened(us_socket_t *s) {
    idle_timeout.restart(s);
    us_socket_arm_long(s, max_lifetime_ ? max_lifetime_ - spread(max_lifetime_) : 0);
}

us_socket_t *Lifecycle::on_data(us_socket_t *s, char *data, int length) {
    IdleTimeout::received(s);
    if (static_cast<size_t>(length) < kSeveralLarge) [[likely]]
        return of(s)->upstream_.on_data(s, data, length);
    // Replies too large for the cork buffer are written as they come, but share segments.
    us_socket_hold(s);
    us_socket_t *result = of(s)->upstream_.on_data(s, data, length);
    us_socket_push(s);  // may be closed, but is valid until the iteration ends
    return result;
}

us_socket_t *Lifecycle::on_long_timeout(us_socket_t *s) {
    if (!is_shutting_down(s)) of(s)->handler_->on_expire(reinterpret_cast<Socket *>(s));
    return s;
}

us_socket_t *Lifecycle::on_end(us_socket_t *s) {
    const bool over_limit = s->read_shutdown && !s->peer_ended && !is_shutting_down(s);
    if (over_limit) of(s)->limits().refused(Refusal::kBackpressureCloses);
    close_with_reason(s, over_limit ? kBackpressure : std::string_view());
    return s;
}

us_socket_t *Lifecycle::on_close(us_socket_t *s, int code, void *reason) {
    Lifecycle *lifecycle = of(s);
    Limits &limits = lifecycle->limits();
    if (s->user_bits & kHasLateBytes) lifecycle->connections_->deferred.forget_late_bytes(s);
    limits.stats.disconnections.add();
    limits.stats.topics.leaves_all(WebSocketAccess::subscriber(websocket_data(s)));
    limits.address_closed(s);
    limits.discharge(s);
    return lifecycle->upstream_.on_close(s, code, reason);
}

}  // namespace uwserve
