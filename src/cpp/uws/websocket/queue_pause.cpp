#include "uws/websocket/queue_pause.h"

#include "usockets/tcp/read.h"
#include "uws/websocket/lifecycle.h"

namespace uwserve {

void pause_for_queue(Socket *ws) { us_socket_pause(raw(ws), US_PAUSE_QUEUE); }

bool resume_from_queue(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (s->pause_reasons & (US_PAUSE_USER | US_PAUSE_BACKLOG)) return false;
    us_socket_resume(s, US_PAUSE_QUEUE);
    Lifecycle::of(s)->idle_timeout.restart(s);
    return true;
}

bool may_parse(Socket *ws) { return !raw(ws)->closed && !(raw(ws)->pause_reasons & ~US_PAUSE_HELD); }

void UnparsedBytes::add(std::string_view rest) {
    if (is_parsing_) {
        parsed_ -= rest.size();
    } else {
        bytes_.append(rest);
    }
}

void UnparsedBytes::parse_piece(Socket *ws, size_t length) {
    char *piece = bytes_.data() + parsed_;
    parsed_ += length;
    is_parsing_ = true;
    us_socket_deliver(raw(ws), piece, length);
    is_parsing_ = false;
}

void UnparsedBytes::clear() {
    std::string().swap(bytes_);
    parsed_ = 0;
}

}  // namespace uwserve
