// Admission of a request: decided when its head is complete, before any byte of its body is kept.
//
// Its client. A trusted proxy sends the requests of many clients over one connection, so the limit of connections per
// address cannot be applied when that connection is accepted. Each such request counts for the client that the proxy
// names, from here until it is answered (release_client), or as long as its WebSocket lives (Limits::client_stays).
//
// Its host. The TLS handshake has chosen a site, with its demands on the client's certificate, by the server name
// (SNI); the request names a site again. That site must demand no more than this connection has met (RFC 9110 7.4,
// 15.5.20).
#include "uws/http/connections.h"

#include "usockets/tls/tls.h"

namespace uwserve {

bool HttpConnections::admit(HttpConnection &conn) {
    us_socket_t *s = conn.s;
    if (!us_socket_tls_may_ask(s, conn.head->host)) [[unlikely]] {
        refuse(conn, 421, "this connection has not met what that host demands");
        return false;
    }
    conn.client = limits_.proxies.client_of(s, *conn.head);
    conn.over_limit = false;
    if (!conn.client.ip_length || conn.client == TrustedProxies::peer_of(s)) return true;  // the connection counts
    conn.client_counted = limits_.client_arrived(conn.client);
    if (conn.client_counted) [[likely]]
        return true;
    if (conn.head->content_length) {
        refuse(conn, 429, "too many connections from this address");
        return false;
    }
    conn.over_limit = true;  // the proxy may keep its connection, which carries other clients' requests, too
    return true;
}

void HttpConnections::answer_over_limit(HttpConnection &conn) {
    static constexpr std::pair<std::string_view, std::string_view> fields[] = {
        {"Content-Type", "text/plain;charset=utf-8"}};
    respond(conn, "429 Too Many Requests", fields, "too many connections from this address", nullptr);
}

void HttpConnections::release_client(HttpConnection &conn) {
    if (conn.client_counted) limits_.client_left(conn.client);
    conn.client_counted = false;
}

}  // namespace uwserve
