#include "uws/websocket/reading.h"

#include "uws/websocket/lifecycle.h"
#include "usockets/tcp/read.h"

namespace uwserve {

static constexpr size_t kMaxPongBacklog = 1u << 20;

void pause_for_user(Socket *ws) { us_socket_pause(raw(ws), US_PAUSE_USER); }

bool resume_for_user(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (!(s->pause_reasons & US_PAUSE_USER)) return false;
    us_socket_resume(s, US_PAUSE_USER);
    Lifecycle::of(s)->connections().deferred.deliver_late_bytes(s);
    Lifecycle::of(s)->idle_timeout.restart(s);
    return true;
}

void pause_behind_backlog(Socket *ws) {
    if (buffered_of(raw(ws)) > kMaxPongBacklog) us_socket_pause(raw(ws), US_PAUSE_BACKLOG);
}

bool resume_behind_backlog(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (!(s->pause_reasons & US_PAUSE_BACKLOG) || buffered_of(s) >= kMaxPongBacklog / 2) return false;
    us_socket_resume(s, US_PAUSE_BACKLOG);
    if (!s->pause_reasons) Lifecycle::of(s)->idle_timeout.restart(s);
    return true;
}

}  // namespace uwserve
