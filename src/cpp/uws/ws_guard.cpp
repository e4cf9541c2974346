#include "ws_guard.h"

#include <algorithm>
#include <cstring>

namespace uwserve {

namespace {

constexpr std::string_view kBackpressure = "Backpressure limit exceeded";

void close_with(us_socket_t *s, std::string_view reason) {
    us_socket_close(0, s, static_cast<int>(reason.size()), const_cast<char *>(reason.data()));
}

// True when everything that was accepted for sending has gone to the kernel, so that another frame may follow.
bool flush_corked(us_socket_t *s) {
    if (backlog_of(s)) return false;
    uWS::LoopData *data = loop_data(s->context->loop);
    if (data->corkedSocket == s && data->corkOffset) {
        int length = static_cast<int>(data->corkOffset);
        data->corkOffset = 0;
        return us_socket_write(0, s, data->corkBuffer, length, 0) == length;
    }
    return true;
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

void WsGuard::install(us_socket_context_t *ws_context, HttpGate *gate, WsHandler *handler) {
    handler_ = handler;
    context_ = ws_context;
    gate_ = gate;
    context_->user = this;
    context_->inbound_liveness = true;
    upstream_ = context_->cb;
    us_socket_context_on_data(0, context_, on_data);
    us_socket_context_on_timeout(0, context_, on_timeout);
    us_socket_context_on_end(0, context_, on_end);
    us_socket_context_on_close(0, context_, on_close);
}

void WsGuard::set_idle_timeout(unsigned seconds, bool send_pings) {
    idle_ = seconds;
    margin_ = std::clamp(seconds / 4, 4u, 16u);
    send_pings_ = send_pings && seconds > margin_;
    // What upstream arms after data and after upgrade; its own pings stay off, ours replace them.
    limits()->sendPingsAutomatically = false;
    limits()->idleTimeoutComponents = {static_cast<unsigned short>(idle_interval()),
                                       static_cast<unsigned short>(margin_)};
}

us_socket_t *WsGuard::on_data(us_socket_t *s, char *data, int length) {
    s->user_bits &= static_cast<uint8_t>(~kPinged);
    return of(s)->upstream_.on_data(s, data, length);
}

us_socket_t *WsGuard::on_timeout(us_socket_t *s) {
    WsGuard *guard = of(s);
    if (s->pause_reasons & US_PAUSE_QUEUE) [[unlikely]] {
        // The peer may well have sent; it is us who do not read. Whoever resumes the socket arms the timer again.
        us_socket_keepalive(s, guard->idle_);
        return s;
    }
    if (guard->send_pings_ && !(s->user_bits & kPinged) && !is_shutting_down(s)) {
        s->user_bits |= kPinged;
        us_socket_arm(s, guard->margin_);
        reinterpret_cast<Socket *>(s)->send({}, uWS::OpCode::PING);
        return s;
    }
    guard->gate_->limits().refused(Refusal::kIdleTimeouts);
    close_with(s, uWS::ERR_WEBSOCKET_TIMEOUT);
    return s;
}

us_socket_t *WsGuard::on_end(us_socket_t *s) {
    if (s->read_shutdown && !s->peer_ended && !is_shutting_down(s)) {
        of(s)->gate_->limits().refused(Refusal::kBackpressureCloses);
        close_with(s, kBackpressure);
        return s;
    }
    close_with(s, {});
    return s;
}

us_socket_t *WsGuard::on_close(us_socket_t *s, int code, void *reason) {
    WsGuard *guard = of(s);
    if (s->user_bits & kHasLateBytes) guard->gate_->forget_late_bytes(s);
    guard->gate_->limits().address_closed(s);
    guard->gate_->limits().discharge(s);
    return guard->upstream_.on_close(s, code, reason);
}

void WsGuard::fail(us_socket_t *s, const Violation &violation) {
    if (s->closed || is_shutting_down(s)) return;
    per_socket(s)->fail_code = violation.code;
    of(s)->gate_->limits().refused(refusal_of_close_code(violation.code));
    // What was published to it before comes first. With a backlog, neither it nor a Close frame gets there any more.
    uWS::Subscriber *subscriber = WebSocketDoor::subscriber(websocket_data(s));
    if (subscriber && !backlog_of(s)) of(s)->limits()->topicTree->drain(subscriber);
    if (flush_corked(s)) {
        char frame[127];
        int length = static_cast<int>(format_close_frame(frame, violation.code, violation.text));
        if (us_socket_write(0, s, frame, length, 0) == length) us_socket_shutdown(0, s);
    }
    close_with(s, violation.text);
}

}  // namespace uwserve
