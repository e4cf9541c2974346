#include "uws/websocket/receive.h"

#include <algorithm>

#include "uws/deflate/per_message.h"
#include "uws/websocket/close.h"
#include "uws/websocket/lifecycle.h"
#include "uws/websocket/send.h"
#include "usockets/loop/embedding.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

constexpr Violation kTooManyControlFrames{1008, "Received too many control frames"};
constexpr Violation kTooManyFragments{1008, "Received too many tiny fragments"};

// The messages and control frames of one read that handlers get before other sockets have their turn; each 16 KiB of
// inflated data count as one more. Kept bytes that us_socket_deliver() delivers come in small pieces anyway, and are
// not kept again: the pieces behind them would overtake the rest.
constexpr size_t kMessagesPerTurn = 1024;
constexpr unsigned kInflatedShift = 14;

// The parser's sink (websocket/frame_parser.h) for one read of one socket.
class Receiver {
  public:
    // `end`: the end of a read whose replies are held, or nullptr. `most`: the limit of messages and control frames.
    Receiver(us_socket_t *s, ReceiveState &state, const char *end, size_t most)
        : s_(s), state_(state), lifecycle_(*Lifecycle::of(s)), end_(end), left_(most) {}

    size_t limit() const { return lifecycle_.limits().websocket.max_payload_length; }
    bool may_compress() const { return uwserve::may_compress(s_); }
    const Violation *on_control_frame() {
        return lifecycle_.limits().control_frame(s_) ? nullptr : &kTooManyControlFrames;
    }
    const Violation *on_fragment(uint64_t size) {
        return lifecycle_.limits().fragment(s_, size) ? nullptr : &kTooManyFragments;
    }

    bool on_message(char *data, size_t size, MessageKind kind) {
        if (kind.compressed) [[unlikely]]
            return deliver_compressed({data, size}, kind.text);
        if (data + size == end_) [[unlikely]]
            us_socket_release(s_);  // its reply is the last one
        return deliver({data, size}, kind.ascii ? Content::kAscii : kind.text ? Content::kText : Content::kBinary);
    }

    char *room(size_t size, uint64_t rest, bool fin) {
        return state_.message_buffer.extend(size, fin ? rest : ~0ull, lifecycle_.spare_memory);
    }

    bool on_assembled(MessageKind kind) {
        std::string_view message = state_.message_buffer.view();
        bool go_on = on_message(const_cast<char *>(message.data()), message.size(), kind);
        state_.message_buffer.give_back(lifecycle_.spare_memory);  // unless the handler has taken it
        return go_on;
    }

    bool on_control(Opcode opcode, char *data, size_t size) {
        std::string_view payload(data, size);
        if (opcode == Opcode::kClose) return on_close(payload);
        if (opcode == Opcode::kPing) {
            Sender::send_control(s_, payload, uWS::OpCode::PONG, lifecycle_.limits());
            lifecycle_.handler().on_ping(ws(), payload);
        } else {
            lifecycle_.handler().on_pong(ws(), payload);
        }
        return is_wanted() && --left_;
    }

    void fail(const Violation &violation) {
        state_.message_buffer.take();
        fail_connection(s_, violation);
    }

    // Keeps the rest of a read for later, when the handler has paused the socket or `most` is reached.
    [[gnu::cold]] void keep(std::string_view rest) {
        if (!is_open()) return;
        if (s_->pause_reasons & US_PAUSE_QUEUE) {
            lifecycle_.handler().on_unparsed(ws(), rest);
        } else {
            us_socket_unread(s_, rest.data(), rest.size());
        }
    }

    // Called when a message is, or was, incomplete: charges its memory, and fails the connection if that is too much.
    void charge() {
        Limits &limits = lifecycle_.limits();
        limits.charge(s_);
        if (state_.message_buffer.capacity() && is_open() && !limits.has_memory(0)) {
            limits.refused(Refusal::kWsBufferedBytes);
            refuse(kShortOfMemory);
        }
    }

  private:
    Socket *ws() const { return reinterpret_cast<Socket *>(s_); }
    bool is_open() const { return !s_->closed && !is_shutting_down(s_); }
    bool is_wanted() const { return is_open() && !(s_->pause_reasons & US_PAUSE_QUEUE); }

    bool deliver(std::string_view message, Content content) {
        lifecycle_.handler().on_message(ws(), message, content);
        return is_wanted() && --left_;
    }

    [[gnu::cold]] bool refuse(const Violation &violation) {
        state_.frames.failed = true;
        fail(violation);
        return false;
    }

    bool deliver_compressed(std::string_view compressed, bool is_text) {
        std::string_view message;
        switch (inflate_message(s_, compressed, limit(), &message)) {
        case Inflated::kTooBig:
            return refuse(kTooBigInflated);
        case Inflated::kCorrupt:
            return refuse(kBadDeflate);
        case Inflated::kOk:
            break;
        }
        lifecycle_.limits().stats.received.add_compressed(message.size(), compressed.size());
        left_ -= std::min(left_ - 1, message.size() >> kInflatedShift);
        if (!is_text) return deliver(message, Content::kBinary);
        if (is_ascii(message.data(), message.size())) return deliver(message, Content::kAscii);
        return is_utf8(message) ? deliver(message, Content::kText) : refuse(kBadText);
    }

    bool on_close(std::string_view payload) {
        uint16_t code;
        std::string_view reason;
        if (const Violation *violation = read_close_payload(payload, &code, &reason)) return refuse(*violation);
        send_close(ws(), code, reason);
        return false;
    }

    us_socket_t *const s_;
    ReceiveState &state_;
    Lifecycle &lifecycle_;
    const char *const end_;
    size_t left_;
};

}  // namespace

void receive(us_socket_t *s, ReceiveState &state, char *data, size_t size) {
    // A small read has few messages.
    const bool is_limited = size > kTurnPiece && data == us_loop_recv_buffer(s->context->loop);
    Receiver receiver(s, state, size < kSeveralLarge ? nullptr : data + size, is_limited ? kMessagesPerTurn : SIZE_MAX);
    // If several pieces were received together, an earlier one may have paused the socket.
    bool is_paused = s->pause_reasons & US_PAUSE_QUEUE;
    char *stopped = is_paused ? data : parse_frames(state.frames, data, size, receiver);
    if (stopped != data + size) [[unlikely]]
        receiver.keep({stopped, static_cast<size_t>(data + size - stopped)});
    if (s->charged | state.message_buffer.capacity()) [[unlikely]]
        receiver.charge();
}

}  // namespace uwserve
