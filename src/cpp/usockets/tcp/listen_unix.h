// tcp/listen_unix.h - the path of a unix listener.

#pragma once

#include "usockets/libusockets.h"

void us_listener_unpublish(us_listen_socket_t *listener);  // removes the path, if it is still this listener's
