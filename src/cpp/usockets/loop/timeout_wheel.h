// loop/timeout_wheel.h - the timing wheel that the timeouts of all sockets of a loop share. Extends libusockets.h.

#pragma once

#include "usockets/libusockets.h"

// us_socket_timeout() that counts while on_writable runs, too.
void us_socket_arm(us_socket_t *s, unsigned int seconds);
// The same for on_long_timeout; traffic does not extend it. 0 disarms.
void us_socket_arm_long(us_socket_t *s, unsigned int seconds);
unsigned int us_socket_long_left(const us_socket_t *s);  // seconds until then, at least 1; 0: not armed
// Closes the socket (code 0, no reason) after `seconds`; traffic does not extend it. 0 disarms.
void us_socket_deadline(us_socket_t *s, unsigned int seconds);

// ---- for the socket layer ----

enum {
    US_WHEEL_SLOTS = 1024,
    US_SWEEP_BURST = 256,
};
constexpr uint32_t US_WHEEL_DUE = UINT32_MAX;  // check_at_ of a socket in `due`

struct us_wheel_t {
    us_socket_t *slots[US_WHEEL_SLOTS];
    us_socket_t *due;  // taken out of their slots by the running sweep
    uint64_t occupied[US_WHEEL_SLOTS / 64];
    uint32_t swept;  // the last tick whose slot was checked
    uint32_t count;
};

void us_wheel_link(us_wheel_t *wheel, us_socket_t *s, uint32_t deadline);
void us_wheel_unlink(us_wheel_t *wheel, us_socket_t *s);
void us_wheel_collect(us_wheel_t *wheel, uint32_t tick);  // moves sockets whose slot has passed to wheel->due
uint32_t us_wheel_next(const us_wheel_t *wheel);  // tick of the next occupied slot, 0 = none
void us_wheel_sweep(us_loop_t *loop, uint32_t tick);  // handles every deadline up to `tick`
