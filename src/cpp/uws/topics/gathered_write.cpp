#include "uws/topics/gathered_write.h"

#include <sys/uio.h>

namespace uwserve {

bool GatheredWrite::open(Socket *ws) {
    us_socket_t *s = raw(ws);
    if (!us_socket_can_write_parts(s) || buffered_of(s)) return false;
    ws_ = ws;
    is_corked_ = loop_data(s->context->loop)->corkedSocket == s;
    count_ = used_ = 0;
    return true;
}

bool GatheredWrite::add(std::string_view payload, uWS::OpCode opcode, bool compressed) {
    const size_t copied = payload.size() <= kCopied ? payload.size() : 0;
    if (count_ == kMostMessages) return false;
    char *first = arena_.data() + used_;
    const size_t size =
        uWS::protocol::formatMessage<true>(first, payload.data(), copied, opcode, payload.size(), compressed, true);
    used_ += size;
    parts_[count_++] = {first, size, copied ? std::string_view{} : payload};
    return true;
}

GatheredWrite::Written GatheredWrite::flush() {
    us_socket_t *s = raw(ws_);
    uWS::LoopData *loop = loop_data(s->context->loop);
    const size_t corked = is_corked_ ? loop->corkOffset : 0;
    std::array<iovec, 1 + 2 * kMostMessages> pieces;
    size_t num = 0, total = corked;
    if (corked) pieces[num++] = {loop->corkBuffer, corked};
    for (size_t i = 0; i < count_; i++) {
        const Part &part = parts_[i];
        // Small messages are adjacent in the arena.
        if (i && parts_[i - 1].second.empty()) {
            pieces[num - 1].iov_len += part.first_size;
        } else {
            pieces[num++] = {const_cast<char *>(part.first), part.first_size};
        }
        if (!part.second.empty()) pieces[num++] = {const_cast<char *>(part.second.data()), part.second.size()};
        total += part.size();
    }
    const size_t written = us_socket_write_parts(s, pieces.data(), num);
    Written result{count_, false};
    if (written < total) [[unlikely]]
        result = keep_rest(written, corked);
    if (is_corked_) {
        loop->corkOffset = 0;
        // Later frames must go behind the backlog. The cork buffer would be written before it.
        if (written < total) loop->corkedSocket = nullptr;
    }
    ws_ = nullptr;
    return result;
}

// The connection keeps the rest of the corked bytes and of a message that was begun: both count as sent.
GatheredWrite::Written GatheredWrite::keep_rest(size_t written, size_t corked) {
    us_socket_t *s = raw(ws_);
    auto &backlog = websocket_data(s)->buffer;
    Written result{0, false};
    try {
        if (written < corked) {
            backlog.append(loop_data(s->context->loop)->corkBuffer + written, corked - written);
            return result;
        }
        written -= corked;
        while (written >= parts_[result.whole].size()) written -= parts_[result.whole++].size();
        if (!written) return result;
        result.split = true;
        const Part &part = parts_[result.whole];
        if (written < part.first_size) {
            backlog.append(part.first + written, part.first_size - written);
            written = part.first_size;
        }
        const size_t taken = written - part.first_size;
        backlog.append(part.second.data() + taken, part.second.size() - taken);
    } catch (const std::bad_alloc &) {
        us_socket_shutdown_read(0, s);  // a part of a frame is sent, so only this connection ends
        return {count_, false};  // and nothing may follow
    }
    return result;
}

}  // namespace uwserve
