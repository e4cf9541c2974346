// Options of HTTP connections, replaced whole by reload.
#pragma once

#include <cstdint>

namespace uwserve {

struct HttpSettings {
    unsigned idle_timeout = 10, keep_alive_timeout = 75;  // seconds; 0 = off
    uint32_t min_body_rate = 240;  // bytes a second, on average; 0 = off
    uint64_t max_body = 16ull << 20;  // bytes
    bool proxy_protocol = false;  // connections of trusted proxies begin with a PROXY header
};

}  // namespace uwserve
