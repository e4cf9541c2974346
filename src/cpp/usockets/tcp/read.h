// tcp/read.h - reading a socket, and the end of what it reads.

#pragma once

#include "usockets/libusockets.h"

constexpr int US_READS_PER_EVENT = 4;

void us_socket_read(us_socket_t *s, uint32_t events);
void us_socket_read_last(us_socket_t *s);  // delivers what a broken connection has still received, and closes it
void us_socket_drop_unread(us_socket_t *s);
void us_socket_deliver_end(us_socket_t *s);  // on_end, at most once
