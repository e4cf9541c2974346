#include "uws/websocket/lifecycle.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "uws/websocket/send.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

// Less than this to read is no excuse for silence: it is news for a program that may be gone, taken by its machine. A
// large message is more, until its last moments.
constexpr size_t kBusyReader = 64 * 1024;

constexpr std::string_view kBackpressure = "Backpressure limit exceeded";

void close_with(us_socket_t *s, std::string_view reason) {
    us_socket_close(0, s, static_cast<int>(reason.size()), const_cast<char *>(reason.data()));
}

}  // namespace

size_t format_close_frame(char *out, uint16_t code, std::string_view reason) {
    size_t length = std::min<size_t>(reason.size(), 123);
    out[0] = static_cast<char>(0x88);
    out[1] = static_cast<char>(length + 2);
    out[2] = static_cast<char>(code >> 8);
    out[3] = static_cast<char>(code & 255);
    if (length) memcpy(out + 4, reason.data(), length);
    return length + 4;
}

void Lifecycle::install(us_socket_context_t *ws_context, HttpConnections *connections, WsHandler *handler) {
    handler_ = handler;
    context_ = ws_context;
    connections_ = connections;
    context_->user = this;
    context_->inbound_liveness = true;
    upstream_ = context_->cb;
    us_socket_context_on_data(0, context_, on_data);
    us_socket_context_on_timeout(0, context_, on_timeout);
    us_socket_context_on_long_timeout(0, context_, on_long_timeout);
    us_socket_context_on_end(0, context_, on_end);
    us_socket_context_on_close(0, context_, on_close);
}

void Lifecycle::set_liveness(const Liveness &liveness) {
    // What uWebSockets arms after data and after upgrade; its own pings stay off, ours replace them.
    auto *data = static_cast<ContextData *>(us_socket_context_ext(0, context_));
    data->sendPingsAutomatically = false;
    data->idleTimeoutComponents = {static_cast<unsigned short>(liveness.next(0)),
                                   static_cast<unsigned short>(liveness.margin())};
    if (liveness == liveness_) return;
    liveness_ = liveness;
    us_socket_context_each(context_, [](us_socket_t *s, void *) {
        if (!is_shutting_down(s) && !(s->pause_reasons & US_PAUSE_USER)) of(s)->heard(s);
    }, nullptr);
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

// uWebSockets has armed the first, but in vain if another connection's on_writable is on the stack.
void Lifecycle::opened(us_socket_t *s) {
    heard(s);
    us_socket_arm_long(s, max_lifetime_ ? max_lifetime_ - spread(max_lifetime_) : 0);
}

us_socket_t *Lifecycle::on_data(us_socket_t *s, char *data, int length) {
    s->user_bits &= static_cast<uint8_t>(~(kPinged | kMarked));
    if (static_cast<size_t>(length) < kSeveralLarge) [[likely]]
        return of(s)->upstream_.on_data(s, data, length);
    // Replies too large for the cork buffer go out as they come, but in common segments.
    us_socket_hold(s);
    us_socket_t *result = of(s)->upstream_.on_data(s, data, length);
    us_socket_push(s);  // closed, perhaps, but there until the iteration ends
    return result;
}

// Silent, but busy with what it was sent: what it says, Pongs too, comes when it is through.
bool Lifecycle::is_reading(us_socket_t *s) {
    Progress progress{per_socket(s)->taken, (s->user_bits & kMarked) != 0};
    if (!progress.shown(s, kBusyReader, liveness_.idle())) return false;
    heard(s);
    per_socket(s)->taken = progress.taken;
    if (progress.is_marked) s->user_bits |= kMarked;
    return true;
}

us_socket_t *Lifecycle::on_timeout(us_socket_t *s) {
    Lifecycle *lifecycle = of(s);
    const Liveness &liveness = lifecycle->liveness_;
    unsigned before = s->user_bits & kPinged ? per_socket(s)->silent : 0;
    unsigned silent = liveness.counted(before + liveness.next(before));
    if (liveness.closes(silent) && (s->pause_reasons & US_PAUSE_QUEUE)) [[unlikely]] {
        // The peer may well have sent: it is this side that does not read. The kernel finds out whether it still
        // exists; Pings go on.
        us_socket_keepalive(s, liveness.idle());
        lifecycle->heard(s);
        return s;
    }
    if (!liveness.closes(silent) && !is_shutting_down(s)) {
        per_socket(s)->silent = static_cast<uint16_t>(silent);
        s->user_bits |= kPinged;
        us_socket_arm(s, liveness.next(silent));
        lifecycle->send_control(s, {}, uWS::OpCode::PING);
        return s;
    }
    if (!is_shutting_down(s) && lifecycle->is_reading(s)) return s;
    lifecycle->connections_->limits().refused(Refusal::kIdleTimeouts);
    close_with(s, uWS::ERR_WEBSOCKET_TIMEOUT);
    return s;
}

us_socket_t *Lifecycle::on_long_timeout(us_socket_t *s) {
    if (!is_shutting_down(s)) of(s)->handler_->on_expire(reinterpret_cast<Socket *>(s));
    return s;
}

us_socket_t *Lifecycle::on_end(us_socket_t *s) {
    if (s->read_shutdown && !s->peer_ended && !is_shutting_down(s)) {
        of(s)->connections_->limits().refused(Refusal::kBackpressureCloses);
        close_with(s, kBackpressure);
        return s;
    }
    close_with(s, {});
    return s;
}

us_socket_t *Lifecycle::on_close(us_socket_t *s, int code, void *reason) {
    Lifecycle *lifecycle = of(s);
    if (s->user_bits & kHasLateBytes) lifecycle->connections_->deferred.forget_late_bytes(s);
    Stats &stats = lifecycle->connections_->limits().stats;
    stats.disconnections.add();
    stats.topics.leaves_all(WebSocketAccess::subscriber(websocket_data(s)));
    lifecycle->connections_->limits().address_closed(s);
    lifecycle->connections_->limits().discharge(s);
    return lifecycle->upstream_.on_close(s, code, reason);
}

void Lifecycle::fail(us_socket_t *s, const Violation &violation) {
    if (s->closed || is_shutting_down(s)) return;
    per_socket(s)->fail_code = violation.code;
    of(s)->connections_->limits().refused(refusal_of_code(violation.code));
    // With a backlog that the kernel does not take, no Close frame gets there any more.
    if (write_accepted(reinterpret_cast<Socket *>(s))) {
        char frame[127];
        int length = static_cast<int>(format_close_frame(frame, violation.code, violation.text));
        if (us_socket_write(0, s, frame, length, 0) == length) us_socket_shutdown(0, s);
    }
    close_with(s, violation.text);
}

}  // namespace uwserve
