// Decides whether a silent peer is alive: it is while it receives the data that was sent to it. Neither a send nor room
// in the kernel's send buffer counts: the peer must have acknowledged bytes (on unix sockets, read them) since the last
// check.
//
// The check runs when the idle timeout of a silent connection expires, and costs system calls only then: nothing is
// recorded when data is sent. So the first check may have nothing to compare with. If the peer has bytes to receive,
// and its kernel has sent any segment in the meantime, it gets one more period; after that only acknowledged bytes
// count. Loop thread only.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

struct Progress {
    uint64_t acknowledged = 0;  // us_socket_acknowledged_bytes() at the last check
    bool is_marked = false;

    // Counts from here on.
    void mark(us_socket_t *s) {
        acknowledged = us_socket_acknowledged_bytes(s);
        is_marked = true;
    }
    // Whether s gets another period. Without a comparison, only a peer with more than `least` bytes to receive may.
    // `seconds`: how long the peer has been silent.
    bool may_stay_open(us_socket_t *s, size_t least, unsigned seconds) {
        size_t owed = unread_of(s);
        uint64_t now = us_socket_acknowledged_bytes(s);
        if (is_marked) {
            bool has_progress = static_cast<int64_t>(now - acknowledged) > 0;
            acknowledged = now;
            is_marked = owed > least;
            return has_progress;
        }
        if (owed <= least || us_socket_seconds_since_ack(s) >= seconds) return false;
        acknowledged = now;
        is_marked = true;
        return true;
    }
};

}  // namespace uwserve
