#include "uws/websocket/close.h"

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

TopicCounts &topic_counts(us_socket_t *s) { return Lifecycle::of(s)->server_limits().stats.topics; }

}  // namespace

void start_close(Socket *ws, int code, std::string_view reason) {
    us_socket_t *s = raw(ws);
    topic_counts(s).leaves_all(subscriber_of(ws));
    end_websocket(ws, code, reason);
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

void terminate(Socket *ws) {
    us_socket_t *s = raw(ws);
    try {
        write_accepted(ws);
    } catch (const std::bad_alloc &) {  // the rest is lost
    }
    // uWebSockets leaves the topics at on_close, after this dispatch; counts must be right at once.
    topic_counts(s).leaves_all(subscriber_of(ws));
    leave_topics(ws);
    us_socket_close_delivering(s);
}

void close_at_once(Socket *ws) { us_socket_close(0, raw(ws), 0, nullptr); }

void set_deadline(Socket *ws, unsigned seconds) {
    if (us_socket_t *s = raw(ws); !s->closed) us_socket_deadline(s, seconds);
}

}  // namespace uwserve
