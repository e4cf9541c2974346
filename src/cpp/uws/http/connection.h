// The state of one HTTP connection. It belongs to its socket (`us_socket_t::user`) from on_open until on_close or the
// upgrade. Loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "uws/http/head.h"
#include "uws/http/pending_heads.h"
#include "uws/http/request_body.h"
#include "uws/http/response.h"
#include "uws/websocket/peer_progress.h"

namespace uwserve {

class HttpConnections;

// No further request is taken while more than this of earlier responses has not left.
constexpr size_t kMaxResponseBacklog = 64 * 1024;
// Bytes that arrive while a request is pending are held up to this; then the socket is not read.
constexpr size_t kMaxHeldBytes = 64 * 1024;

struct HttpConnection : PendingHead {
    enum class State {
        kHead,  // collects a head
        kBody,  // collects a body
        kPending,  // a request waits for its response
        kDraining,  // the last response is being sent; input is discarded
    };

    HttpConnection(us_socket_t *socket, HttpConnections *owner) : s(socket), connections(owner) {}

    us_socket_t *const s;
    HttpConnections *const connections;
    State state = State::kHead;
    bool is_queued = false;  // in Deferred: `held` comes next, and received bytes are appended to it
    uint8_t empty_lines = 0;  // before the head that is being collected
    bool half_closed = false;  // the client has sent FIN: no requests follow those in `held`
    bool responding = false;  // a response has begun
    bool client_counted = false;  // the request counts for `client` under max_connections_per_address
    bool over_limit = false;  // `client` has too many connections: the request is answered with 429
    ClientAddress client;  // of the last request
    std::optional<unsigned> request_timeout;  // seconds; set for the pending request
    bool head_timed = true;  // the timer runs for a head that has begun (the first one begins with the connection)
    Response *response = nullptr;  // uWebSockets' object, while kPending
    std::shared_ptr<HttpHead> head;  // shared with the upper layer's request
    RequestBody body;
    std::string held;
    size_t scanned = 0;  // this much of `held` contains no end of a head
    Progress progress;  // of the client in receiving responses
    uint32_t body_begun = 0;  // the loop's tick when the head was complete
    void *request = nullptr;  // the upper layer's object
    std::unique_ptr<BodyStream> stream;  // the streamed body that is being sent
    std::optional<uint64_t> stream_left;  // bytes of the stream that are still to come, if its length was declared
    us_socket_t **upgraded = nullptr;  // set while consume() dispatches a request: receives the WebSocket
};

// The next request must wait until the client has received earlier responses.
inline bool is_congested(const HttpConnection &conn) {
    return conn.state == HttpConnection::State::kHead && buffered_of(conn.s) > kMaxResponseBacklog;
}

struct HttpHandler {
    virtual ~HttpHandler() = default;
    virtual void on_request(HttpConnection &conn) = 0;  // the request is complete with its body
    virtual void on_settled(HttpConnection &conn) = 0;  // answered in full, or the client left: conn.request ends
};

}  // namespace uwserve
