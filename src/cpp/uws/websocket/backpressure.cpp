#include "uws/websocket/backpressure.h"

#include "uws/deflate/per_message.h"

namespace uwserve {

SendResult Sender::drop(us_socket_t *s) {
    refuse(s, limits_);
    if (s->read_shutdown && s->context->loop->depth == 0) us_wakeup_loop(s->context->loop);
    return SendResult::kDropped;
}

bool Sender::admits_behind(us_socket_t *s, size_t length, size_t owed) {
    send_queued(reinterpret_cast<Socket *>(s));  // goes first, and may fill the backlog
    const size_t backlog = buffered_of(s);
    // A socket that is about to be closed for its limit sends nothing any more.
    const bool over_own = backlog && (s->read_shutdown || backlog + length > limits_.websocket.backpressure_limit);
    if (!over_own) {
        if (limits_.has_memory(topics_.pending_bytes() + owed + length)) return true;
        topics_.drain();  // the kernel takes most of it
        if (limits_.has_memory(owed + length)) return true;
    }
    limits_.refused(over_own ? Refusal::kSendsBackpressure : Refusal::kSendsBufferedBytes);
    return false;
}

SendResult Sender::send(Socket *ws, std::string_view message, Opcode opcode, bool compress) {
    us_socket_t *s = raw(ws);
    if (!admits(s, message.size())) [[unlikely]]
        return drop(s);
    if (!reserve_backlog(s, message.size(), &send_reserve)) [[unlikely]]
        return SendResult::kNoMemory;
    Socket::SendStatus status;
    try {
        status = send_message(ws, message, static_cast<uWS::OpCode>(opcode), compress);
    } catch (const std::bad_alloc &) {
        drop_corked(s);
        us_socket_shutdown_read(0, s);  // a part of a frame may be sent, so nothing may follow
        return SendResult::kNoMemory;
    }
    if (message.size() > 16 * 1024) trim_backlog(s, &send_reserve);
    limits_.sent(s, static_cast<unsigned>(opcode), message.size(), status);
    if (status == Socket::SUCCESS && !s->blocked) [[likely]]  // for uWebSockets, bytes that TLS has encrypted are sent
        return SendResult::kSent;
    return status == Socket::DROPPED ? SendResult::kDropped : SendResult::kQueued;
}

}  // namespace uwserve
