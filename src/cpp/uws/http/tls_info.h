// What is known about the TLS connection of a request. Loop thread only.
#pragma once

#include <optional>

#include "usockets/tls/tls.h"
#include "uws/http/connections.h"

namespace uwserve {

using TlsInfo = us_tls_info_t;

// Nothing for a connection without TLS.
inline std::optional<TlsInfo> tls_info_of(const HttpConnection &conn) {
    TlsInfo info;
    if (!us_socket_tls_info(conn.s, &info)) return std::nullopt;
    return info;
}

}  // namespace uwserve
