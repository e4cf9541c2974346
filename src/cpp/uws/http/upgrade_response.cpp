#include "uws/http/upgrade_response.h"

#include "usockets/tcp/read.h"
#include "uws/http/connections.h"

namespace uwserve {

void upgrade_to_websocket(HttpConnection &conn, const UpgradeAnswer &answer) {
    us_socket_t *s = conn.s;
    CorkYield yield(s->context->loop);
    HttpConnections &connections = *conn.connections;
    Response *response = conn.response;
    us_socket_t **upgraded = conn.upgraded;
    std::string rest = std::move(conn.held);
    if (std::exchange(conn.client_counted, false)) connections.limits().client_stays(s, conn.client);
    connections.remove(conn);

    try {
        response->cork([&] {
            response->writeStatus("101 Switching Protocols");
            for (auto [name, value] : answer.fields) response->writeHeader(name, value);
            if (!answer.extensions.empty()) response->writeHeader("Sec-WebSocket-Extensions", answer.extensions);
            response->upgrade<PerSocket>(PerSocket(answer.user), answer.key, answer.protocol, std::string_view(),
                                         connections.ws_context());
        });
    } catch (...) {
        if (!s->moved_to) response->onAborted([] {});  // uWebSockets would call that of `conn`, which is gone
        drop_corked(s);
        us_socket_close(0, us_socket_newest(s), 0, nullptr);
        throw;
    }

    us_socket_t *ws = s->moved_to;
    if (!ws->closed && is_shutting_down(ws) && buffered_of(ws) == 0) us_socket_shutdown(0, ws);  // defect S6
    if (upgraded) {
        *upgraded = ws;
    } else if (ws->closed) {
        return;
    } else if (rest.empty()) {
        us_socket_resume(ws, US_PAUSE_HELD);
    } else {
        // Accepted after its own dispatch: bytes that the client has sent meanwhile wait until no handler is on the stack.
        connections.deferred.hold_late_bytes(ws, std::move(rest));
    }
}

}  // namespace uwserve
