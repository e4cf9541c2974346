// The only file that includes headers of uWebSockets.
//
// Our replacements of its headers are included first, and define the include guards of these: the frame parser, the
// codec, and the send buffer. Requests are parsed by http/connections.h, which passes a constant head to uWebSockets.
//
// Loop thread only.
#pragma once

#include <libusockets.h>
#include "usockets/tcp/socket.h"
#include "usockets/tcp/write.h"

#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string_view>

#include "uws/limits/rate_bucket.h"
#include "uws/upstream/async_socket_data.h"
#include "uws/upstream/per_message_deflate.h"
#include "uws/upstream/websocket_protocol.h"

#include <App.h>

namespace uwserve {

// Our data of each WebSocket, which uWebSockets stores right behind its own. Trivially destructible, because uWebSockets
// destroys it twice when its close handler ends the socket again (defect L8).
struct PerSocket {
    void *handle = nullptr;  // the upper layer's object, with a reference that is released at close
    uint16_t fail_code = 0;  // the close code of the violation that failed this connection, 0 = none
    Negotiated compression;
    uint16_t silent = 0;  // while kPinged: seconds without a received byte, as of the last ping
    uint64_t acknowledged = 0;  // while kMarked: see websocket/peer_progress.h
    RateBucket control_frames, tiny_fragments;  // received from the peer
};
static_assert(sizeof(PerSocket) == 40 && alignof(PerSocket) <= LIBUS_EXT_ALIGNMENT);

using App = uWS::App;
using Socket = uWS::WebSocket<false, true, PerSocket>;
using Response = uWS::HttpResponse<false>;
using ContextData = uWS::WebSocketContextData<false, PerSocket>;
using TopicTree = uWS::TopicTree<uWS::TopicTreeMessage, uWS::TopicTreeBigMessage>;

struct UpstreamAccess;  // only names the specialisations below

}  // namespace uwserve

// The templates of uWebSockets are friends of all their specialisations. These three, on a tag of ours, are the only
// access to its private state. They have no data and decide nothing.
namespace uWS {

template <>
struct TopicTree<uwserve::UpstreamAccess, uwserve::UpstreamAccess> {
    // Takes the last queued message from a subscriber, which stays in the list of those to be drained.
    static void take_back(Subscriber *subscriber) { subscriber->numMessageIndices--; }
};

template <>
struct WebSocket<false, true, uwserve::UpstreamAccess> {
    static Subscriber *subscriber(WebSocketData *data) { return data->subscriber; }
    static void forget_subscriber(WebSocketData *data) { data->subscriber = nullptr; }
    static bool is_shutting_down(WebSocketData *data) { return data->isShuttingDown; }
    static DeflationStream *deflation(WebSocketData *data) { return data->deflationStream; }
    static InflationStream *inflation(WebSocketData *data) { return data->inflationStream; }
    // uWebSockets deletes both streams with the connection.
    static void enable_compression(WebSocketData *data, std::unique_ptr<DeflationStream> deflation,
                                   std::unique_ptr<InflationStream> inflation) {
        data->deflationStream = deflation.release();
        data->inflationStream = inflation.release();
        data->compressionStatus = WebSocketData::ENABLED;
    }
};

template <>
struct WebSocketContext<false, true, uwserve::UpstreamAccess> {
    static void write(us_socket_t *s, std::string_view bytes) {
        reinterpret_cast<AsyncSocket<false> *>(s)->write(bytes.data(), static_cast<int>(bytes.size()));
    }
    static void uncork(AsyncSocket<false> *s) { s->uncork(); }
    static void cork(AsyncSocket<false> *s) { s->corkUnchecked(); }
};

}  // namespace uWS

namespace uwserve {

using WebSocketAccess = uWS::WebSocket<false, true, UpstreamAccess>;
using AsyncSocketAccess = uWS::WebSocketContext<false, true, UpstreamAccess>;
using TopicTreeAccess = uWS::TopicTree<UpstreamAccess, UpstreamAccess>;

inline us_socket_t *raw(Socket *ws) { return reinterpret_cast<us_socket_t *>(ws); }
inline PerSocket *per_socket(us_socket_t *ws) { return reinterpret_cast<Socket *>(ws)->getUserData(); }
inline us_socket_t *raw(Response *res) { return reinterpret_cast<us_socket_t *>(res); }
inline uWS::WebSocketData *websocket_data(us_socket_t *s) {
    return static_cast<uWS::WebSocketData *>(us_socket_ext(0, s));
}
inline MessageBuffer &message_buffer_of(us_socket_t *s) {
    return static_cast<uWS::WebSocketState<true> *>(websocket_data(s))->message_buffer;
}
inline bool is_shutting_down(us_socket_t *s) { return WebSocketAccess::is_shutting_down(websocket_data(s)); }
inline uWS::Subscriber *subscriber_of(Socket *ws) { return WebSocketAccess::subscriber(websocket_data(raw(ws))); }
inline uWS::LoopData *loop_data(us_loop_t *loop) { return static_cast<uWS::LoopData *>(us_loop_ext(loop)); }

// The backlog of an HTTP or WebSocket connection: bytes in user space that the kernel has not taken, without corked ones.
inline size_t buffered_of(us_socket_t *s) {
    return static_cast<uWS::AsyncSocketData<false> *>(us_socket_ext(0, s))->buffer.length() + us_socket_unsent_bytes(s);
}

// The bytes that the peer has not acknowledged, in user space and in the kernel.
inline size_t unread_of(us_socket_t *s) { return buffered_of(s) + us_socket_unacknowledged(s); }

// Seconds in which the peer of a closing socket must receive these bytes, at 64 KiB/s, and close its side: half a minute
// more, or ten seconds if the kernel has all bytes and our FIN already.
inline unsigned drain_seconds(us_socket_t *s) {
    return (buffered_of(s) ? 30 : 10) + static_cast<unsigned>(unread_of(s) >> 16);
}

// uWebSockets may have to keep a whole message, and a std::bad_alloc inside it would end the process. False: there is no
// memory for `length` bytes. Small messages are not checked. `spare`: memory to use for this; as a rule, the kernel takes
// messages whole, and trim_backlog() returns it.
inline bool reserve_backlog(us_socket_t *s, size_t length, SpareMemory *spare = nullptr) {
    if (length < (1u << 20)) return true;
    auto &backlog = static_cast<uWS::AsyncSocketData<false> *>(us_socket_ext(0, s))->buffer;
    try {
        backlog.hold(backlog.length() + length + uWS::LoopData::CORK_BUFFER_SIZE + 16, spare);
    } catch (const std::bad_alloc &) {
        return false;
    }
    return true;
}

// After the send: frees the memory of reserve_backlog() that was not needed.
inline void trim_backlog(us_socket_t *s, SpareMemory *spare = nullptr) {
    static_cast<uWS::AsyncSocketData<false> *>(us_socket_ext(0, s))->buffer.trim(spare);
}

// Allows corking another socket for a while: flushes the socket that is corked, and corks it again (empty) at the end.
// Needed because user code inside a WebSocket's handler may answer or upgrade a pending HTTP request.
class CorkYield {
  public:
    explicit CorkYield(us_loop_t *loop)
        : loop_(loop_data(loop)), corked_(static_cast<uWS::AsyncSocket<false> *>(loop_->corkedSocket)) {
        if (corked_) AsyncSocketAccess::uncork(corked_);
    }
    ~CorkYield() {
        // An exception may have left the other socket corked: its bytes must not be sent to this one.
        loop_->corkedSocket = nullptr;
        loop_->corkOffset = 0;
        if (corked_) AsyncSocketAccess::cork(corked_);
    }
    CorkYield(const CorkYield &) = delete;
    CorkYield &operator=(const CorkYield &) = delete;

  private:
    uWS::LoopData *loop_;
    uWS::AsyncSocket<false> *corked_;
};

// The topics of a socket. (The walk of uWebSockets locks the subscriber, for good if the callback throws.)
inline const std::set<uWS::Topic *> &topics_of(Socket *ws) {
    static const std::set<uWS::Topic *> none;
    const uWS::Subscriber *subscriber = subscriber_of(ws);
    return subscriber ? subscriber->topics : none;
}

// After an exception in code that writes to `s`: drops its bytes in the cork buffer. Those of another socket stay.
inline void drop_corked(us_socket_t *s) {
    uWS::LoopData *data = loop_data(s->context->loop);
    if (!data->corkedSocket || data->corkedSocket == s) data->corkOffset = 0;
}

// Calls `write`, which writes to `s`. If it throws, the socket is closed: a part may be sent, and nothing could follow it.
template <typename F>
inline auto or_close(us_socket_t *s, F write) {
    try {
        return write();
    } catch (...) {
        drop_corked(s);
        us_socket_close(0, us_socket_newest(s), 0, nullptr);
        throw;
    }
}

}  // namespace uwserve
