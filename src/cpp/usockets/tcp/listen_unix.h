// tcp/listen_unix.h - listening at a path, or at an abstract name. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// NULL on failure with errno. Abstract names start with NUL. The permission bits `mode` are set before the name is
// published; -1 leaves them to the umask.
us_listen_socket_t *us_listen_unix(us_socket_context_t *context, const char *path, size_t path_length, int mode,
                                   int socket_ext_size);

// ---- for the socket layer ----

void us_listener_unpublish(us_listen_socket_t *listener);  // removes the path, if it is still this listener's
