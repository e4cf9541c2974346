// HttpConnections in front of uWebSockets' HTTP context.
//
// Every byte of an HTTP connection passes through here first. HttpConnections collects heads (any split of the bytes), parses
// them strictly (http/head.h), counts bodies, and lets upstream see one constant, minimal head per request, one request
// at a time, the next only after the response. So upstream's own parser never sees a byte from a peer (defects H1-H7),
// bytes behind a handshake or behind a pipelined request are held, never lost (L13), and user code always runs outside
// upstream's parser, where upgrading and closing are safe (L3, L4, L7).
//
// Ownership: a HttpConnection belongs to its socket (`us_socket_t::user`) from on_open until on_close or upgrade.
// `HttpConnection::request` is the upper layer's; on_settled() ends it.
// Loop thread only.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "uws/http/head.h"
#include "uws/limits/limits.h"
#include "uws/http/pending_heads.h"
#include "uws/websocket/peer_progress.h"
#include "uws/http/request_body.h"
#include "uws/upstream/uwebsockets.h"

namespace uwserve {

class HttpConnections;
class Lifecycle;

// No further request is taken while this much of earlier responses has not left.
constexpr size_t kMaxResponseBacklog = 64 * 1024;
// Bytes that arrive while a request waits for its answer are held up to this; then the socket is not read.
constexpr size_t kMaxHeldBytes = 64 * 1024;

// No connection has more requests in a row than this, and none begins another one after so long, before the others have had
// their turn.
constexpr unsigned kRequestsPerTurn = 32;
constexpr std::chrono::milliseconds kTurnTime{1};
// The same of bytes that were received earlier, which are looked at in pieces: there is no stopping within one.
constexpr size_t kTurnBytes = 16 * 1024, kTurnPiece = 4096;

class Turn {
  public:
    bool is_over() const { return std::chrono::steady_clock::now() - begun_ > kTurnTime; }

  private:
    std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

// Empty lines that may come before a request line (RFC 9112 2.2: "at least one").
constexpr unsigned kMaxEmptyLines = 4;

// Keeps the bytes of a response alive until they were taken.
struct BodyOwner {
    virtual ~BodyOwner() = default;
};

// The source of a streamed body. Destroyed when the stream ended, whichever way.
struct BodyStream {
    virtual ~BodyStream() = default;
    enum class Next {
        kPiece,
        kLater,  // none yet: pump() when there is one
        kEnd,
        kFailed,
    };
    virtual Next next(std::string_view &piece) = 0;  // the piece is valid until the next call
    virtual void no_memory() = 0;  // to send the last piece with: the stream is over
    virtual void wrong_length(bool too_long) = 0;  // than was declared: the same
    virtual void *held() const = 0;  // the object of the upper layer's, for its garbage collector
};

struct HttpConnection : PendingHead {
    enum class State {
        kHead,  // collecting a head
        kBody,  // collecting a body
        kPending,  // a request waits for its answer
        kDraining,  // the last answer is on its way out; input is discarded
    };
    // Tells consume(), further up the stack, what became of the connection while a handler ran.
    struct Frame {
        us_socket_t *upgraded = nullptr;
    };

    HttpConnection(us_socket_t *socket, HttpConnections *owner) : s(socket), connections(owner) {}

    us_socket_t *const s;
    HttpConnections *const connections;
    State state = State::kHead;
    bool ready_queued =
        false;  // in HttpConnections::ready_: what is held comes next, and what is received lines up behind it
    uint8_t empty_lines = 0;  // in front of the head that is being collected
    bool half_closed = false;  // the client has sent its FIN: no more requests than what is held
    bool responding = false;  // a response was begun
    bool client_counted = false;  // the limit of connections counts the request for `client`
    bool over_limit = false;  // it has too many already: the request is answered with 429
    ClientAddress client;  // of the request whose head was taken last
    std::optional<unsigned> own_timeout;  // seconds; of the request that is pending
    bool head_timed = true;  // the timer counts for the head that has begun (the first: since the connection was made)
    Response *response = nullptr;  // upstream's, while kPending
    std::shared_ptr<HttpHead> head;  // shared with the upper layer's request
    RequestBody body;
    std::string held;
    size_t scanned = 0;  // how much of `held` holds no end of a head
    Progress progress;  // of the client, with the responses
    uint32_t body_begun = 0;  // the loop's tick when the head was complete
    void *request = nullptr;  // the upper layer's
    std::unique_ptr<BodyStream> stream;  // the streamed body that is being sent
    std::optional<uint64_t> stream_left;  // what is still to come of it, if its length was declared
    Frame *frame = nullptr;
};

// The next request must wait until the client has read the answers it has.
inline bool is_congested(const HttpConnection &conn) {
    return conn.state == HttpConnection::State::kHead && buffered_of(conn.s) > kMaxResponseBacklog;
}

struct HttpHandler {
    virtual ~HttpHandler() = default;
    virtual void on_request(HttpConnection &conn) = 0;  // complete with its body
    virtual void on_settled(HttpConnection &conn) = 0;  // answered in full, or the client left: conn.request ends here
};

using Fields = std::span<const std::pair<std::string_view, std::string_view>>;

struct UpgradeAnswer {
    std::string key, protocol;  // owned: the request's head, where they may come from, ends with its connection
    std::string_view extensions;
    Fields fields;
    PerSocket user;
};

class HttpConnections {
  public:
    HttpConnections(HttpHandler &handler, Limits &limits) : handler_(handler), limits_(limits) {}
    HttpConnections(const HttpConnections &) = delete;
    HttpConnections &operator=(const HttpConnections &) = delete;

    void install(us_socket_context_t *http_context, us_socket_context_t *ws_context);
    // Upstream's catch-all route calls this with the constant request.
    void on_upstream_request(Response *response);

    // --- answers; conn must be pending and not yet responding ---

    // `declared`: the Content-Length of a body that is not there. It is used for HEAD, whose body need not be known.
    void respond(HttpConnection &conn, std::string_view status, Fields fields, std::optional<std::string_view> body,
                 std::unique_ptr<BodyOwner> owner, std::optional<uint64_t> declared = std::nullopt);
    // With a declared length the body is sent as it is, and must have just that.
    void respond_stream(HttpConnection &conn, std::string_view status, Fields fields,
                        std::unique_ptr<BodyStream> stream, std::optional<uint64_t> declared = std::nullopt);
    // A stream that had no piece (kLater) has one now, or its end has come otherwise than by next().
    void pump(HttpConnection &conn);
    void end_stream(HttpConnection &conn, bool complete);
    // How long the pending request may wait for its answer, or each next bit of it; instead of idle_timeout.
    void set_timeout(HttpConnection &conn, unsigned seconds);
    // 101: conn is gone afterwards; on_open has run.
    void upgrade(HttpConnection &conn, const UpgradeAnswer &answer);
    // The head is malformed, too large, ...: one small error response, then the connection ends.
    void refuse(HttpConnection &conn, int status, const char *why);

    // Stops keep-alive: idle connections are closed, the next response of the others is their last. Who has just connected
    // may send one request within `fresh_seconds`; with 0, is idle.
    void wind_down(unsigned fresh_seconds);
    void close_all();
    // Bytes behind a handshake that wait for the socket to be read again.
    void deliver_late_bytes(us_socket_t *ws);
    void forget_late_bytes(us_socket_t *ws);
    void drop_late_bytes(us_socket_t *ws);  // and reads on: nobody wants them any more

    Limits &limits() { return limits_; }

    unsigned idle_timeout = 10;  // seconds, 0 = off
    unsigned keep_alive_timeout = 75;  // seconds after a response until the next request begins, 0 = off
    uint32_t min_body_rate = 240;  // bytes a second, on average, 0 = off
    uint64_t max_body = 16ull << 20;  // bytes
    std::atomic<uint32_t> pending{0};  // requests that wait for an answer; read by any thread

  private:
    static us_socket_t *on_open(us_socket_t *s, int is_client, char *ip, int ip_length);
    static us_socket_t *on_data(us_socket_t *s, char *data, int length);
    static us_socket_t *on_writable(us_socket_t *s);
    static us_socket_t *on_end(us_socket_t *s);
    static us_socket_t *on_timeout(us_socket_t *s);
    static us_socket_t *on_close(us_socket_t *s, int code, void *reason);
    static HttpConnections *of(us_socket_t *s) { return static_cast<HttpConnections *>(s->context->user); }

    void consume(HttpConnection &conn, std::string_view in);
    bool take_head(HttpConnection &conn, std::string_view &in);
    bool admit(HttpConnection &conn);  // http/admission.cpp
    void answer_over_limit(HttpConnection &conn);
    void release_client(HttpConnection &conn);
    bool take_body(HttpConnection &conn, std::string_view &in);
    void dispatch(HttpConnection &conn);
    void limit_held(HttpConnection &conn);
    void make_room_for(HttpConnection &newcomer);
    void charge(HttpConnection &conn);
    void send_piece(HttpConnection &conn, std::string_view piece);
    static bool is_chunked(const HttpConnection &conn) { return !conn.head->is_http10 && !conn.stream_left; }
    unsigned period_of(const HttpConnection &conn) const;
    void restart_timer(HttpConnection &conn);
    void time_body(HttpConnection &conn);
    bool is_alive(HttpConnection &conn);
    void response_done(HttpConnection &conn);
    void drain_and_end(HttpConnection &conn);
    static void end_connection(us_socket_t *s);
    void queue_ready(HttpConnection &conn);
    void hold_late_bytes(us_socket_t *ws, std::string bytes);
    void wake();
    void run_queues();

    HttpHandler &handler_;
    Limits &limits_;
    PendingHeads heads_;
    us_socket_context_t *http_ = nullptr, *ws_ = nullptr;
    us_callbacks_t upstream_{};
    HttpConnection *dispatching_ = nullptr;
    bool winding_down_ = false;
    bool wake_queued_ = false;
    std::deque<HttpConnection *> ready_;  // answered; their held bytes come next
    struct LateBytes {
        us_socket_t *ws;
        std::string bytes;  // from `begin` on
        Limits::MemoryCharge kept;
        size_t begin = 0;
        bool is_visited = false, is_dropped = false;
    };
    bool deliver_share(LateBytes &entry);
    std::list<LateBytes> late_;  // bytes behind a handshake that was accepted later
};

constexpr uint8_t kHasLateBytes = 1;  // us_socket_t::user_bits of a WebSocket: it is in late_

}  // namespace uwserve
