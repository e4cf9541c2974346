#include "uws/websocket/send.h"

#include <new>
#include <utility>

namespace uwserve {

namespace {

// The first part of a write in two goes at once or is kept below; only up to this size is the latter promised.
static_assert(uWS::LoopData::CORK_BUFFER_SIZE <= 16 * 1024);

bool has_buffered(us_socket_t *s) { return websocket_data(s)->buffer.totalLength() != 0; }

}  // namespace

void send_queued(Socket *ws) {
    if (uWS::Subscriber *subscriber = subscriber_of(ws)) {
        static_cast<ContextData *>(us_socket_context_ext(0, raw(ws)->context))->topicTree->drain(subscriber);
    }
}

void leave_topics(Socket *ws) {
    us_socket_t *s = raw(ws);
    static_cast<ContextData *>(us_socket_context_ext(0, s->context))->topicTree->freeSubscriber(subscriber_of(ws));
    WebSocketAccess::forget_subscriber(websocket_data(s));
}

bool write_accepted(Socket *ws) {
    us_socket_t *s = raw(ws);
    send_queued(ws);
    if (!us_socket_retry(s)) return false;
    auto write = [s](const char *bytes, size_t length) {
        return static_cast<size_t>(static_cast<unsigned>(us_socket_write(0, s, bytes, static_cast<int>(length), 0)));
    };
    auto &backlog = websocket_data(s)->buffer;
    if (backlog.length()) {
        const size_t taken = write(backlog.data(), backlog.length());
        backlog.erase(taken);
        if (backlog.length()) return false;
    }
    uWS::LoopData *loop = loop_data(s->context->loop);
    if (loop->corkedSocket != s || !loop->corkOffset) return true;
    const size_t corked = std::exchange(loop->corkOffset, 0);
    return write(loop->corkBuffer, corked) == corked;
}

void end_websocket(Socket *ws, int code, std::string_view reason) {
    us_socket_t *s = raw(ws);
    auto *context = static_cast<ContextData *>(us_socket_context_ext(0, s->context));
    if (is_shutting_down(s)) return;
    try {
        ws->end(code, reason);
    } catch (const std::bad_alloc &) {
        // uWebSockets takes it for ended, and would neither free its subscriptions nor call its handler.
        drop_corked(s);
        leave_topics(ws);
        us_socket_close(0, s, 0, nullptr);
        context->closeHandler(ws, code, reason);
    }
}

Socket::SendStatus write_uncorked(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compressed) {
    us_socket_t *s = raw(ws);
    uWS::LoopData *loop = loop_data(s->context->loop);
    // Behind a backlog there is no way around a copy.
    if (has_buffered(s)) return ws->send(message, opcode, compressed);
    send_queued(ws);
    bool is_corked = loop->corkedSocket == s;
    size_t corked = is_corked ? loop->corkOffset : 0;
    if (has_buffered(s) || corked + kLongestHeader > uWS::LoopData::CORK_BUFFER_SIZE) {
        return ws->send(message, opcode, compressed);
    }

    char own[kLongestHeader + kCopied];
    char *first = corked ? loop->corkBuffer : own;
    std::string_view second = message;
    if (!corked && message.size() <= kCopied) second = {};
    size_t first_size =
        corked + uWS::protocol::formatMessage<true>(first + corked, message.data(), message.size() - second.size(),
                                                    opcode, message.size(), compressed, true);
    if (corked) loop->corkOffset = 0;
    size_t written =
        static_cast<size_t>(second.empty() ? us_socket_write(0, s, first, static_cast<int>(first_size), 0)
                                           : us_socket_write2(0, s, first, static_cast<int>(first_size), second.data(),
                                                              static_cast<int>(second.size())));
    if (written == first_size + second.size()) [[likely]]
        return Socket::SUCCESS;

    // write2() takes at least the first part and one byte, or nothing because the connection is about to be closed.
    try {
        if (second.empty()) {
            websocket_data(s)->buffer.append(first + written, first_size - written);
        } else if (written > first_size) {
            size_t taken = written - first_size;
            websocket_data(s)->buffer.append(second.data() + taken, second.size() - taken);
        }
    } catch (const std::bad_alloc &) {
        us_socket_shutdown_read(0, s);  // half a frame is gone: only this connection ends
    }
    // What follows goes behind the backlog, not into the cork buffer, which would be written before it.
    if (is_corked) loop->corkedSocket = nullptr;
    // A handler that sends until the answer is 0 must learn that the connection is dead.
    return written || second.empty() ? Socket::BACKPRESSURE : Socket::DROPPED;
}

}  // namespace uwserve
