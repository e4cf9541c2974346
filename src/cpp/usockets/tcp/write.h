// tcp/write.h - the blocked state of a socket, and the end of its writing.

#pragma once

#include "usockets/libusockets.h"

void us_socket_writable(us_socket_t *s);
void us_socket_finish_writing(us_socket_t *s);  // FIN
void us_socket_block(us_socket_t *s);  // must not be blocked
void us_socket_unblock(us_socket_t *s);
