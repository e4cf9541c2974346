// tls/site.h - one certificate of a configuration, as tls/site.cpp makes it and tls/config.cpp chooses it.
#pragma once

#include "usockets/tls/internal.h"

// Fills a site whose address will not change. False with *error; site->context may have been made and is the caller's.
bool us_tls_site_open(us_tls_site_t *site, const us_tls_entry_t &entry, us_tls_error_t *error);

// What is on this thread's error queue, as one text; empties it.
std::string us_tls_openssl_says();
