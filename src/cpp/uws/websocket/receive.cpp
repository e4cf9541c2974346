#include "uws/websocket/receive.h"

#include <algorithm>

#include "uws/deflate/per_message.h"
#include "uws/websocket/lifecycle.h"
#include "uws/websocket/send.h"
#include "usockets/loop/embedding.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

constexpr Violation kTooManyControlFrames{1008, "Received too many control frames"};
constexpr Violation kTooManyFragments{1008, "Received too many tiny fragments"};

// What one read may bring to the handlers before the others have their turn: messages and control frames, and for each 16
// KiB that had to be inflated one more. What was kept for later and comes through us_socket_deliver() comes in small pieces
// anyway, and is not cut again: others of them would overtake the rest.
constexpr size_t kMessagesPerTurn = 1024;
constexpr unsigned kInflatedShift = 14;

// The parser's sink (websocket/frame_parser.h) for one read of one socket.
class Receiver {
  public:
    // `end`: of a read whose replies are held. `most`: messages and control frames that there may be.
    Receiver(us_socket_t *s, ReceiveState &state, const char *end, size_t most)
        : s_(s), state_(state), lifecycle_(*static_cast<Lifecycle *>(s->context->user)), end_(end), left_(most) {}

    size_t limit() const { return lifecycle_.server_limits().websocket.max_payload_length; }
    bool may_compress() const { return uwserve::may_compress(s_); }
    const Violation *on_control_frame() {
        return lifecycle_.server_limits().control_frame(s_) ? nullptr : &kTooManyControlFrames;
    }
    const Violation *on_fragment(uint64_t size) {
        return lifecycle_.server_limits().fragment(s_, size) ? nullptr : &kTooManyFragments;
    }

    bool on_message(char *data, size_t size, MessageKind kind) {
        if (kind.compressed) [[unlikely]]
            return deliver_compressed({data, size}, kind.text);
        if (data + size == end_) [[unlikely]]
            us_socket_release(s_);  // its reply is the last one
        return deliver({data, size}, kind.ascii ? Content::kAscii : kind.text ? Content::kText : Content::kBinary);
    }

    char *room(size_t size, uint64_t rest, bool fin) {
        return state_.message_buffer.extend(size, fin ? rest : ~0ull, lifecycle_.spare);
    }

    bool on_assembled(MessageKind kind) {
        std::string_view message = state_.message_buffer.view();
        bool go_on = on_message(const_cast<char *>(message.data()), message.size(), kind);
        state_.message_buffer.give_back(lifecycle_.spare);  // what the handler has not taken
        return go_on;
    }

    bool on_control(Opcode opcode, char *data, size_t size) {
        std::string_view payload(data, size);
        if (opcode == Opcode::kClose) {
            on_close(payload);
            return false;
        }
        if (opcode == Opcode::kPing) {
            lifecycle_.send_control(s_, payload, uWS::OpCode::PONG);
            lifecycle_.handler().on_ping(ws(), payload);
        } else {
            lifecycle_.handler().on_pong(ws(), payload);
        }
        return is_wanted() && --left_;
    }

    void fail(const Violation &violation) {
        state_.message_buffer.take();
        lifecycle_.fail(s_, violation);
    }

    // The handler has had enough for now, or this connection has: the rest comes back with the next read.
    [[gnu::cold]] void keep(std::string_view rest) {
        if (!is_open()) return;
        if (s_->pause_reasons & US_PAUSE_QUEUE) {
            lifecycle_.handler().on_unparsed(ws(), rest);
        } else {
            us_socket_unread(s_, rest.data(), rest.size());
        }
    }

    // After a read that has left, or found, a message in assembly: what it takes is charged, and may be too much.
    void charge() {
        Limits &limits = lifecycle_.server_limits();
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
        lifecycle_.server_limits().stats.received.add_compressed(message.size(), compressed.size());
        left_ -= std::min(left_ - 1, message.size() >> kInflatedShift);
        if (!is_text) return deliver(message, Content::kBinary);
        if (is_ascii(message.data(), message.size())) return deliver(message, Content::kAscii);
        return is_utf8(message) ? deliver(message, Content::kText) : refuse(kBadText);
    }

    // Answered with the same code and reason (RFC 6455 5.5.1), then FIN.
    void on_close(std::string_view payload) {
        uint16_t code;
        std::string_view reason;
        if (const Violation *violation = read_close_payload(payload, &code, &reason)) {
            refuse(*violation);
        } else {
            lifecycle_.server_limits().stats.topics.leaves_all(subscriber_of(ws()));
            end_websocket(ws(), code, reason);
        }
    }

    us_socket_t *const s_;
    ReceiveState &state_;
    Lifecycle &lifecycle_;
    const char *const end_;
    size_t left_;
};

}  // namespace

void receive(us_socket_t *s, ReceiveState &state, char *data, size_t size) {
    // A small read cannot bring much.
    const bool may_be_cut = size > kTurnPiece && data == us_loop_recv_buffer(s->context->loop);
    Receiver receiver(s, state, size < kSeveralLarge ? nullptr : data + size, may_be_cut ? kMessagesPerTurn : SIZE_MAX);
    // Paused before: one of several pieces that were received together.
    bool is_paused = s->pause_reasons & US_PAUSE_QUEUE;
    char *stopped = is_paused ? data : parse_frames(state.frames, data, size, receiver);
    if (stopped != data + size) [[unlikely]]
        receiver.keep({stopped, static_cast<size_t>(data + size - stopped)});
    if (s->charged | state.message_buffer.capacity()) [[unlikely]]
        receiver.charge();
}

}  // namespace uwserve
