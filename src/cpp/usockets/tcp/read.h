// tcp/read.h - reading a socket, pausing it, and the end of what it reads. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// Why a socket is not being read; reading resumes when the last reason is taken back. QUEUE: received bytes wait for
// the layer above, so the peer's silence is no sign of death.
enum us_pause_reason_t { US_PAUSE_USER = 1, US_PAUSE_HELD = 2, US_PAUSE_BACKLOG = 4, US_PAUSE_QUEUE = 8 };

// Stops reading; idempotent. US_PAUSE_USER disarms on_timeout, and the caller that resumes must arm it again.
void us_socket_pause(us_socket_t *s, int reason);
void us_socket_resume(us_socket_t *s, int reason);
// For a socket that is not read, lets the kernel check whether the peer is still there: TCP sends probes after
// `seconds` without traffic (tcp(7), SO_KEEPALIVE); if none is answered in as long again, an error event follows. Best
// effort; does nothing on unix sockets, whose peer cannot vanish unnoticed.
void us_socket_keepalive(us_socket_t *s, unsigned int seconds);

// Only inside on_data: gives back the last bytes of the read. They are delivered again, before any others, after the
// other sockets have had their turn, and dropped when the socket closes. us_socket_unread_bytes(): how many wait.
void us_socket_unread(us_socket_t *s, const char *data, size_t length);
size_t us_socket_unread_bytes(const us_socket_t *s);
// Passes bytes to on_data as if they had just arrived (copied into a padded buffer, in pieces); follows adoption and
// stops at a close; on_close is deferred to its end. Returns the socket that received the last piece.
us_socket_t *us_socket_deliver(us_socket_t *s, const char *data, size_t length);

// ---- for the socket layer ----

constexpr int US_READS_PER_EVENT = 4;

static inline bool us_socket_is_reading(const us_socket_t *s) {
    return !s->pause_reasons && !s->peer_ended && !s->read_shutdown;
}

void us_socket_read(us_socket_t *s, uint32_t events);
void us_socket_read_last(us_socket_t *s);  // delivers what a broken connection has still received, and closes it
void us_socket_drop_unread(us_socket_t *s);
void us_socket_deliver_end(us_socket_t *s);  // on_end, at most once
