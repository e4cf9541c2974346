// Answers an opening handshake with 101 Switching Protocols: writes the headers of the upgrade and turns the HTTP
// connection into a WebSocket. Loop thread only.
#pragma once

#include <string>

#include "uws/http/response.h"
#include "uws/upstream/uwebsockets.h"

namespace uwserve {

struct UpgradeAnswer {
    std::string key, protocol;  // owned: the request's head, from which they may come, ends with its connection
    std::string_view extensions;
    Fields fields;
    PerSocket user;
};

// `conn` is gone afterwards, and on_open has run.
void upgrade_to_websocket(HttpConnection &conn, const UpgradeAnswer &answer);

}  // namespace uwserve
