#include "uws/websocket/send.h"

#include <new>

namespace uwserve {

namespace {

// The socket layer sends the first part of us_socket_write2() or keeps it; it keeps no more than this.
static_assert(uWS::LoopData::CORK_BUFFER_SIZE <= 16 * 1024);

bool has_buffered(us_socket_t *s) { return websocket_data(s)->buffer.totalLength() != 0; }

}  // namespace

void send_queued(Socket *ws) {
    if (uWS::Subscriber *subscriber = subscriber_of(ws)) {
        context_data(ws)->topicTree->drain(subscriber);
    }
}

Socket::SendStatus write_uncorked(Socket *ws, std::string_view message, uWS::OpCode opcode, bool compressed) {
    us_socket_t *s = raw(ws);
    uWS::LoopData *loop = loop_data(s->context->loop);
    // Behind a backlog, a copy can't be avoided.
    if (has_buffered(s)) return ws->send(message, opcode, compressed);
    send_queued(ws);
    bool is_corked = loop->corkedSocket == s;
    size_t corked = is_corked ? loop->corkOffset : 0;
    if (has_buffered(s) || corked + kLongestHeader > uWS::LoopData::CORK_BUFFER_SIZE) {
        return ws->send(message, opcode, compressed);
    }

    char buffer[kLongestHeader + kCopied];
    char *first = corked ? loop->corkBuffer : buffer;
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

    // write2() takes at least the first part and one byte, or nothing when the connection is about to be closed.
    try {
        if (second.empty()) {
            websocket_data(s)->buffer.append(first + written, first_size - written);
        } else if (written > first_size) {
            size_t taken = written - first_size;
            websocket_data(s)->buffer.append(second.data() + taken, second.size() - taken);
        }
    } catch (const std::bad_alloc &) {
        us_socket_shutdown_read(0, s);  // a part of a frame is sent, so only this connection ends
    }
    // Later frames must go behind the backlog. The cork buffer would be written before it.
    if (is_corked) loop->corkedSocket = nullptr;
    // A handler that sends until the answer is 0 must learn that the connection is dead.
    return written || second.empty() ? Socket::BACKPRESSURE : Socket::DROPPED;
}

}  // namespace uwserve
