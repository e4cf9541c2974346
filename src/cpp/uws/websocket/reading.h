// Pauses and resumes reading. Each reason to pause ends by itself. Loop thread only; calls no user code, except that
// resume_for_user() may deliver bytes received before.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

void pause_for_user(Socket *ws);
// False: the user had not paused the socket.
bool resume_for_user(Socket *ws);

// Limits the backlog of Pongs, which admission does not limit because the peer checks with them that the server is
// alive: a socket with a large backlog is not read (defect S8).
void pause_behind_backlog(Socket *ws);
// True: the backlog is small again, and the socket was paused for it.
bool resume_behind_backlog(Socket *ws);

}  // namespace uwserve
