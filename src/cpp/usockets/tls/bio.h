// tls/bio.h - the BIO of a connection, and the way of its encrypted bytes to the kernel.

#pragma once

#include "usockets/tls/state.h"

BIO *us_tls_bio_new(us_tls_state_t *state);
bool us_tls_append(us_tls_state_t *state, const void *data, size_t length);  // false: US_TLS_OUT_MAX is reached
void us_tls_flush_family(us_tls_state_t *state);  // the family's buffer to the kernel, the rest to the socket's own
int us_tls_flush_socket(us_tls_state_t *state);  // 0, or -1 with errno
