#include "uws/websocket/close.h"

#include <new>
#include <utility>

#include "uws/websocket/lifecycle.h"
#include "uws/websocket/send.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

void set_handshake_deadline(us_socket_t *s) {
    if (s->closed) return;
    us_socket_arm(s, 0);
    us_socket_deadline(s, drain_seconds(s));  // however slowly it drains (defect P10)
}

// uWebSockets leaves the topics only at on_close, after this dispatch, but the counts must be right at once.
void count_as_left(Socket *ws) { Lifecycle::of(raw(ws))->limits().stats.topics.leaves_all(subscriber_of(ws)); }

// Unsubscribes the socket from everything. Needs no memory.
void leave_topics(Socket *ws) {
    context_data(ws)->topicTree->freeSubscriber(subscriber_of(ws));
    WebSocketAccess::forget_subscriber(websocket_data(raw(ws)));
}

// Writes all bytes that were accepted for sending, and asks the kernel once more where it was full. False: it has not
// taken all, so no other frame may follow.
bool write_accepted(Socket *ws) {
    us_socket_t *s = raw(ws);
    send_queued(ws);
    if (!us_socket_retry(s)) return false;
    auto write = [s](const char *bytes, size_t length) {
        return static_cast<size_t>(static_cast<unsigned>(us_socket_write(0, s, bytes, static_cast<int>(length), 0)));
    };
    auto &backlog = websocket_data(s)->buffer;
    if (backlog.length()) {
        backlog.erase(write(backlog.data(), backlog.length()));
        if (backlog.length()) return false;
    }
    uWS::LoopData *loop = loop_data(s->context->loop);
    if (loop->corkedSocket != s || !loop->corkOffset) return true;
    const size_t corked = std::exchange(loop->corkOffset, 0);
    return write(loop->corkBuffer, corked) == corked;
}

}  // namespace

// Without memory for the frame, the connection is closed at once.
void send_close(Socket *ws, int code, std::string_view reason) {
    us_socket_t *s = raw(ws);
    count_as_left(ws);
    if (is_shutting_down(s)) return;
    ContextData *context = context_data(ws);
    try {
        ws->end(code, reason);
    } catch (const std::bad_alloc &) {
        // uWebSockets regards the socket as ended, and would neither free its subscriptions nor call its handler.
        drop_corked(s);
        leave_topics(ws);
        close_at_once(ws);
        context->closeHandler(ws, code, reason);
    }
}

void start_close(Socket *ws, int code, std::string_view reason) {
    us_socket_t *s = raw(ws);
    send_close(ws, code, reason);
    if (!s->closed) Lifecycle::of(s)->connections().deferred.drop_late_bytes(s);
    us_socket_resume(s, US_PAUSE_USER | US_PAUSE_BACKLOG | US_PAUSE_QUEUE);  // the peer's FIN must be seen
    set_handshake_deadline(s);
}

void finish_close(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (s->closed) return;
    us_socket_resume(s, US_PAUSE_QUEUE);
    set_handshake_deadline(s);
}

void fail_connection(us_socket_t *s, const Violation &violation) {
    if (s->closed || is_shutting_down(s)) return;
    const auto [code, text] = violation;
    per_socket(s)->fail_code = code;
    Lifecycle::of(s)->limits().refused(refusal_of_code(code));
    // Behind a backlog that the kernel does not take, a Close frame would not arrive.
    if (write_accepted(reinterpret_cast<Socket *>(s))) {
        char payload[kMaxControlPayload], frame[kMaxControlPayload + 2];
        size_t size = uWS::protocol::formatClosePayload(payload, code, text.data(), text.size());
        size = uWS::protocol::formatMessage<true>(frame, payload, size, uWS::OpCode::CLOSE, size, false, true);
        const int length = static_cast<int>(size);
        if (us_socket_write(0, s, frame, length, 0) == length) us_socket_shutdown(0, s);
    }
    close_with_reason(s, text);
}

void terminate(Socket *ws) {
    try {
        write_accepted(ws);
    } catch (const std::bad_alloc &) {  // the rest is lost
    }
    count_as_left(ws);
    leave_topics(ws);
    us_socket_close_delivering(raw(ws));
}

void close_at_once(Socket *ws) { us_socket_close(0, raw(ws), 0, nullptr); }

void close_with_reason(us_socket_t *s, std::string_view reason) {
    us_socket_close(0, s, static_cast<int>(reason.size()), const_cast<char *>(reason.data()));
}

void set_deadline(Socket *ws, unsigned seconds) {
    if (us_socket_t *s = raw(ws); !s->closed) us_socket_deadline(s, seconds);
}

}  // namespace uwserve
