#include "uws/websocket/idle_timeout.h"

#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"
#include "uws/websocket/close.h"
#include "uws/websocket/lifecycle.h"
#include "uws/websocket/peer_progress.h"

namespace uwserve {

namespace {

// A silent peer with less than this to read is not busy: its kernel takes so little even after the program has gone.
// Most of a large message is more.
constexpr size_t kBusyReader = 64 * 1024;

}  // namespace

void IdleTimeout::install(us_socket_context_t *ws_context) {
    context_ = ws_context;
    context_->inbound_liveness = true;
    us_socket_context_on_timeout(0, context_, [](us_socket_t *s) {
        Lifecycle::of(s)->idle_timeout.on_timeout(s);
        return s;
    });
}

void IdleTimeout::set_schedule(const PingSchedule &schedule) {
    // uWebSockets arms these after data and after an upgrade. Its own Pings stay off.
    auto *data = static_cast<ContextData *>(us_socket_context_ext(0, context_));
    data->sendPingsAutomatically = false;
    data->idleTimeoutComponents = {static_cast<unsigned short>(schedule.next(0)),
                                   static_cast<unsigned short>(schedule.margin())};
    if (schedule == schedule_) return;
    schedule_ = schedule;
    us_socket_context_each(context_, [](us_socket_t *s, void *timeout) {
        if (!is_shutting_down(s) && !(s->pause_reasons & US_PAUSE_USER))
            static_cast<IdleTimeout *>(timeout)->restart(s);
    }, this);
}

// Whether a silent peer is busy reading. It sends nothing before it has read its data, not even Pongs.
bool IdleTimeout::is_reading(us_socket_t *s) {
    Progress progress{per_socket(s)->acknowledged, (s->user_bits & kMarked) != 0};
    if (!progress.may_stay_open(s, kBusyReader, schedule_.idle())) return false;
    restart(s);
    per_socket(s)->acknowledged = progress.acknowledged;
    if (progress.is_marked) s->user_bits |= kMarked;
    return true;
}

void IdleTimeout::on_timeout(us_socket_t *s) {
    Limits &limits = Lifecycle::of(s)->limits();
    const unsigned before = s->user_bits & kPinged ? per_socket(s)->silent : 0;
    const unsigned silent = schedule_.counted(before + schedule_.next(before));
    if (schedule_.closes(silent) && (s->pause_reasons & US_PAUSE_QUEUE)) [[unlikely]] {
        // The peer may have sent data that this side does not read yet. TCP keepalive checks the peer; Pings go on.
        us_socket_keepalive(s, schedule_.idle());
        restart(s);
    } else if (!schedule_.closes(silent) && !is_shutting_down(s)) {
        per_socket(s)->silent = static_cast<uint16_t>(silent);
        s->user_bits |= kPinged;
        us_socket_arm(s, schedule_.next(silent));
        Sender::send_control(s, {}, uWS::OpCode::PING, limits);
    } else if (is_shutting_down(s) || !is_reading(s)) {
        limits.refused(Refusal::kIdleTimeouts);
        close_with_reason(s, uWS::ERR_WEBSOCKET_TIMEOUT);
    }
}

}  // namespace uwserve
