// The only file that includes headers of uWebSockets.
//
// Our replacements of its headers are included first, and define uWebSockets' include guards:
// upstream/websocket_protocol.h for the frame parser, upstream/per_message_deflate.h for the codec,
// upstream/async_socket_data.h for what waits to be sent. Requests are parsed by our gate (http/connections.h), which
// hands uWebSockets a constant head.
//
// Loop thread only, all of it.
#pragma once

#include <libusockets.h>

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

// What uWebSockets keeps per WebSocket for us, right behind its own data. Trivially destructible on purpose:
// uWebSockets destroys it twice when its close handler ends the socket again (defect L8).
struct PerSocket {
    void *handle = nullptr;  // the layer above's object; it holds a reference that is given back at close
    uint16_t fail_code = 0;  // the close code of the violation that failed this connection, 0 = none
    Negotiated compression;  // what the handshake agreed on
    uint16_t silent = 0;  // while kPinged: seconds without a received byte, as of the last ping
    uint64_t acknowledged = 0;  // while kMarked: see websocket/peer_progress.h
    RateBucket control_frames, tiny_fragments;  // that the peer has sent
};
static_assert(sizeof(PerSocket) == 40 && alignof(PerSocket) <= LIBUS_EXT_ALIGNMENT);

using App = uWS::App;
using Socket = uWS::WebSocket<false, true, PerSocket>;
using Response = uWS::HttpResponse<false>;
using ContextData = uWS::WebSocketContextData<false, PerSocket>;
using TopicTree = uWS::TopicTree<uWS::TopicTreeMessage, uWS::TopicTreeBigMessage>;

struct UpstreamAccess;  // only names the specialisations below

}  // namespace uwserve

// uWebSockets befriends every specialisation of its own templates. These three, on a tag of ours, are the only way in
// this code base to state that uWebSockets keeps private; they hold no data and decide nothing.
namespace uWS {

template <>
struct TopicTree<uwserve::UpstreamAccess, uwserve::UpstreamAccess> {
    // The last message that waits for a subscriber does so no more. It stays in the list of those that are to be
    // drained.
    static void take_back(Subscriber *subscriber) { subscriber->numMessageIndices--; }
};

template <>
struct WebSocket<false, true, uwserve::UpstreamAccess> {
    static Subscriber *subscriber(WebSocketData *data) { return data->subscriber; }
    static void forget_subscriber(WebSocketData *data) { data->subscriber = nullptr; }
    static bool is_shutting_down(WebSocketData *data) { return data->isShuttingDown; }
    static DeflationStream *deflation(WebSocketData *data) { return data->deflationStream; }
    static InflationStream *inflation(WebSocketData *data) { return data->inflationStream; }
    // uWebSockets deletes both with the connection.
    static void enable_compression(WebSocketData *data, std::unique_ptr<DeflationStream> deflation,
                                   std::unique_ptr<InflationStream> inflation) {
        data->deflationStream = deflation.release();
        data->inflationStream = inflation.release();
        data->compressionStatus = WebSocketData::ENABLED;
    }
};

template <>
struct WebSocketContext<false, true, uwserve::UpstreamAccess> {
    static std::pair<int, bool> write(AsyncSocket<false> *s, const char *data, int length) {
        return s->write(data, length);
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

// User-space bytes not yet taken by the kernel, of an HTTP or WebSocket connection, without what is corked.
inline size_t buffered_of(us_socket_t *s) {
    return static_cast<uWS::AsyncSocketData<false> *>(us_socket_ext(0, s))->buffer.length() + us_socket_unsent_bytes(s);
}

// What the peer has not taken yet, in user space and in the kernel.
inline size_t unread_of(us_socket_t *s) { return buffered_of(s) + us_socket_unacknowledged(s); }

// Seconds in which the peer of a closing socket must take that, at 64 KiB/s, and close its side: half a minute more, or
// ten seconds where the kernel has everything already, our end included.
inline unsigned drain_seconds(us_socket_t *s) {
    return (buffered_of(s) ? 30 : 10) + static_cast<unsigned>(unread_of(s) >> 16);
}

// uWebSockets may have to keep all of a message, and a std::bad_alloc inside it would end the process. False: there is
// no room for that much. Small messages are not worth the question. `spare`: memory that is used for it, and comes back
// in trim_backlog() as a rule, as the kernel takes most messages whole.
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

// After the send: room that reserve_backlog() has made and that was not needed may go again.
inline void trim_backlog(us_socket_t *s, SpareMemory *spare = nullptr) {
    static_cast<uWS::AsyncSocketData<false> *>(us_socket_ext(0, s))->buffer.trim(spare);
}

// Lets another socket be corked for a while: flushes the one that is and corks it again (empty) at the end. Needed
// where user code inside a WebSocket's handler answers or upgrades a pending HTTP request.
class CorkYield {
  public:
    explicit CorkYield(us_loop_t *loop)
        : loop_(loop_data(loop)), corked_(static_cast<uWS::AsyncSocket<false> *>(loop_->corkedSocket)) {
        if (corked_) AsyncSocketAccess::uncork(corked_);
    }
    ~CorkYield() {
        // An exception may have left the other one corked: no byte of it may go to this one.
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

// What a socket is subscribed to. (uWebSockets' own walk locks the subscriber, for good when the callback throws.)
inline const std::set<uWS::Topic *> &topics_of(Socket *ws) {
    static const std::set<uWS::Topic *> none;
    const uWS::Subscriber *subscriber = subscriber_of(ws);
    return subscriber ? subscriber->topics : none;
}

// After an exception inside of what writes to `s`: its bytes in the cork buffer are gone, or go nowhere. Those of
// another socket stay.
inline void drop_corked(us_socket_t *s) {
    uWS::LoopData *data = loop_data(s->context->loop);
    if (!data->corkedSocket || data->corkedSocket == s) data->corkOffset = 0;
}

// Writes to `s`, which ends it when that throws: a part may be gone, and nothing could follow it.
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
