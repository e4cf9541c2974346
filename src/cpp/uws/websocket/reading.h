// Pausing a WebSocket, and reading on. Each reason to pause is taken back by itself. Loop thread only; calls no user
// code, save that resume_for_user() may deliver what was received before.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

// By the user.
void pause_for_user(Socket *ws);
// False: the user had not paused it.
bool resume_for_user(Socket *ws);

// Pongs are not bounded by a limit (that would break the peer's check for liveness), but a peer that pings and does not
// read is not read any further while its backlog is large (defect S8).
void pause_behind_backlog(Socket *ws);
// True: the backlog is small again, and this reason to pause is gone.
bool resume_behind_backlog(Socket *ws);

}  // namespace uwserve
