// Decides whether a silent peer is alive: it is while it receives the data that was sent to it. Neither a send nor room
// in the kernel's send buffer counts: the peer must have acknowledged bytes (on unix sockets, read them) since the last
// check.
//
// The check runs when the idle timeout of a silent connection expires, and costs system calls only then: nothing is
// recorded while messages and responses go out. So the first check may have nothing to compare with. If the peer has
// bytes to receive, and its kernel has sent any segment in the meantime, it gets one more period; after that only
// acknowledged bytes count. A peer whose kernel has sent nothing gets none. Loop thread only.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

struct Progress {
    uint64_t taken = 0;  // us_socket_acknowledged_bytes() at the last check
    bool is_marked = false;

    // Counts from here on.
    void mark(us_socket_t *s) {
        taken = us_socket_acknowledged_bytes(s);
        is_marked = true;
    }
    // Whether s may stay open for another period. Without a comparison, only a peer that has more than `least` bytes to
    // receive gets one; `seconds` is how long the peer has been silent.
    bool shown(us_socket_t *s, size_t least, unsigned seconds) {
        size_t owed = unread_of(s);
        uint64_t now = us_socket_acknowledged_bytes(s);
        if (is_marked) {
            bool has_taken = static_cast<int64_t>(now - taken) > 0;
            taken = now;
            is_marked = owed > least;
            return has_taken;
        }
        if (owed <= least || us_socket_seconds_since_ack(s) >= seconds) return false;
        taken = now;
        is_marked = true;
        return true;
    }
};

}  // namespace uwserve
