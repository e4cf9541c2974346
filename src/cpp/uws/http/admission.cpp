#include "uws/http/admission.h"

#include "usockets/tls/tls.h"
#include "uws/http/connections.h"

namespace uwserve {

constexpr std::string_view kTooManyText = "too many connections from this address";

void make_room_for(HttpConnection &newcomer) {
    PendingHeads &heads = newcomer.connections->heads;
    Limits &limits = newcomer.connections->limits();
    heads.add(newcomer);
    uint32_t max = limits.figures.max_pending_heads;
    while (max && heads.size() > max) {
        PendingHead &oldest = *heads.oldest();
        heads.remove(oldest);
        limits.refused(Refusal::kPendingHeads);
        us_socket_reset(static_cast<HttpConnection &>(oldest).s);
    }
}

bool admit_request(HttpConnection &conn) {
    us_socket_t *s = conn.s;
    Limits &limits = conn.connections->limits();
    if (!us_socket_tls_may_ask(s, conn.head->host)) [[unlikely]]
        return refuse_request(conn, 421, "this connection has not met what that host demands");
    conn.client = limits.proxies.client_of(s, *conn.head);
    conn.over_limit = false;
    if (!conn.client.ip_length || conn.client == TrustedProxies::peer_of(s)) return true;  // the connection counts
    conn.client_counted = limits.client_arrived(conn.client);
    if (conn.client_counted) [[likely]]
        return true;
    if (conn.head->content_length) return refuse_request(conn, 429, kTooManyText);
    conn.over_limit = true;  // the proxy may keep its connection, because it carries requests of other clients, too
    return true;
}

void answer_over_limit(HttpConnection &conn) {
    static constexpr std::pair<std::string_view, std::string_view> fields[] = {
        {"Content-Type", "text/plain;charset=utf-8"}};
    send_response(conn, "429 Too Many Requests", fields, kTooManyText, nullptr);
}

void release_client(HttpConnection &conn) {
    if (std::exchange(conn.client_counted, false)) conn.connections->limits().client_left(conn.client);
}

}  // namespace uwserve
