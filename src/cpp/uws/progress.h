// The one judge of whether a peer from which nothing comes is alive: it is while it takes what it was sent. That something
// was sent does not count, nor that there is room for more in the kernel: the peer must have acknowledged bytes (on unix
// sockets, read them) since it was last looked at.
//
// It is asked when the time of a silent connection is up, and only then costs system calls: nothing is written down while
// messages and responses go out. So the first look may have nothing to compare with. A peer that has bytes to take, and
// whose machine has said something in the meantime, then gets one more period; from then on bytes count. A machine that has
// said nothing at all gets none. Loop thread only.
#pragma once

#include "uws.h"

namespace uwserve {

struct Progress {
    uint64_t taken = 0;  // us_socket_taken() at the last look
    bool is_marked = false;

    // Counts from here on.
    void mark(us_socket_t *s) {
        taken = us_socket_taken(s);
        is_marked = true;
    }
    // Whether s may stay for another period. Only who has more than `least` bytes to take is given one on trust; `seconds`
    // is how long nothing has come.
    bool shown(us_socket_t *s, size_t least, unsigned seconds) {
        size_t owed = unread_of(s);
        uint64_t now = us_socket_taken(s);
        if (is_marked) {
            bool has_taken = static_cast<int64_t>(now - taken) > 0;
            taken = now;
            is_marked = owed > least;
            return has_taken;
        }
        if (owed <= least || us_socket_unheard_seconds(s) >= seconds) return false;
        taken = now;
        is_marked = true;
        return true;
    }
};

}  // namespace uwserve
