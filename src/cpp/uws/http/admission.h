// Decides whether a client may send a request. Loop thread only.
//
// The client. A trusted proxy sends the requests of many clients over one connection, so the limit of connections per
// address cannot be applied when that connection is accepted. Instead, each such request counts for the client that the
// proxy names: until it is answered (release_client()), or as long as its WebSocket lives (Limits::client_stays()).
//
// The host. The TLS handshake has chosen a site by the server name (SNI), with its demands on the client's certificate.
// The request names a site again. That site must not demand more than this connection has met (RFC 9110 7.4, 15.5.20).
#pragma once

namespace uwserve {

struct HttpConnection;

// For a new connection: above max_pending_heads, the connection that has taken longest is closed. So many slow clients
// cannot keep the next one out.
void make_room_for(HttpConnection &newcomer);

// For a request, when its head is complete, before any byte of its body is kept. False: it is refused.
bool admit_request(HttpConnection &conn);
void answer_over_limit(HttpConnection &conn);
void release_client(HttpConnection &conn);

}  // namespace uwserve
