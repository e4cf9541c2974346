// The frame parser: RFC 6455 section 5 and 7.4, strict, incremental, in one pass.
//
// It takes bytes in any split, and calls a Sink. Each violation has its own text and a close code, and is reported at
// the first byte that shows it; nothing is parsed after it. Removes defects P1-P5 and P11 of uWebSockets' parser. Uses
// neither sockets nor uWebSockets.
//
// A message whose payload is in the buffer as one piece is unmasked in place and delivered as a view. All others are
// unmasked into memory that the sink provides as the bytes arrive (never by a declared length, defect P7).
//
// struct Sink {
//     size_t limit();                                       // of a message, in bytes
//     bool may_compress();                                  // RSV1 was negotiated
//     const Violation *on_control_frame();                  // at each header; nullptr: accepted
//     const Violation *on_fragment(uint64_t size);          // the same for each frame of a fragmented message
//     // A whole message. `data` is valid during the call, and writable. The parser must not be called meanwhile.
//     bool on_message(char *data, size_t size, MessageKind kind);
//     // Memory for `size` more bytes of a message in several pieces. `rest` bytes of its current frame follow; `fin`: it is
//     // the last frame. nullptr: no memory.
//     char *room(size_t size, uint64_t rest, bool fin);
//     bool on_assembled(MessageKind kind);                  // the message in several pieces is complete
//     bool on_control(Opcode opcode, char *data, size_t size);
//     void fail(const Violation &violation);
// };
// The bools: go on. With false, parsing stops right behind the delivered frame.
#pragma once

#include <algorithm>
#include <memory>

#include "uws/websocket/utf8.h"
#include "uws/websocket/unmask.h"

namespace uwserve {

struct Violation {
    uint16_t code;  // RFC 6455 7.4.1
    std::string_view text;  // at most 123 bytes
};

inline constexpr Violation kReservedBits{1002, "Received a frame with a reserved bit set"};
inline constexpr Violation kCompressedUnasked{1002, "Received a compressed frame, but compression was not negotiated"};
inline constexpr Violation kCompressedControl{1002, "Received a control frame with RSV1 set"};
inline constexpr Violation kCompressedContinuation{1002, "Received a continuation frame with RSV1 set"};
inline constexpr Violation kReservedOpcode{1002, "Received a frame with a reserved opcode"};
inline constexpr Violation kFragmentedControl{1002, "Received a fragmented control frame"};
inline constexpr Violation kLongControl{1002, "Received a control frame of more than 125 bytes"};
inline constexpr Violation kStrayContinuation{1002, "Received a continuation frame outside of a message"};
inline constexpr Violation kInterruptedMessage{1002, "Received a new message inside a fragmented one"};
inline constexpr Violation kUnmasked{1002, "Received an unmasked frame"};
inline constexpr Violation kLongLength{1002, "Received a frame length that is not minimally encoded"};
inline constexpr Violation kNegativeLength{1002, "Received a frame length with the highest bit set"};
inline constexpr Violation kOneByteClose{1002, "Received a Close frame with a payload of one byte"};
inline constexpr Violation kBadCloseCode{1002, "Received a Close frame with an invalid code"};
inline constexpr Violation kBadCloseReason{1007, "Received a Close frame with invalid UTF-8"};
inline constexpr Violation kBadText{1007, "Received invalid UTF-8"};
inline constexpr Violation kBadDeflate{1007, "Received a compressed message that can't be inflated"};
inline constexpr Violation kTooBig{1009, "Received too big message"};
inline constexpr Violation kTooBigInflated{1009, "Received a message that is too big when inflated"};
inline constexpr Violation kNoMemory{1011, "Out of memory for a message"};
inline constexpr Violation kShortOfMemory{1013, "The server is short of memory, try again later"};

enum class Opcode : uint8_t { kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };

struct MessageKind {
    bool text : 1;
    bool ascii : 1;  // a text that is known to be ASCII
    bool compressed : 1;  // the sink must inflate it, and check it if it is text
};

constexpr size_t kMaxControlPayload = 125;
constexpr size_t kMaxFrameHeader = 14;

// Whether a peer may send this code (RFC 6455 7.4, IANA's registry).
constexpr bool is_close_code(unsigned code) {
    return (code >= 1000 && code <= 1014 && !(code >= 1004 && code <= 1006)) || (code >= 3000 && code <= 4999);
}

// Reads the payload of a Close frame; the code of an empty one is 1005. nullptr: it is valid.
const Violation *read_close_payload(std::string_view payload, uint16_t *code, std::string_view *reason);

// The limit of a compressed message on the wire: deflate makes incompressible data longer, by 5 bytes in 127 when zlib
// has the least memory.
constexpr uint64_t compressed_limit(uint64_t limit) { return limit + limit / 16 + 256; }

// The state between two calls of parse_frames().
struct FrameState {
    uint64_t left = 0;  // bytes of the current frame's payload
    uint64_t announced = 0;  // payload of the current message's frames so far, with all of the current one's
    uint32_t mask = 0;  // for the next byte of the payload
    Opcode opcode = Opcode::kContinuation;  // of the current frame
    uint8_t header_size = 0;  // bytes in `header`
    bool in_payload = false;  // the header is complete
    bool fin = false;
    bool in_message = false;  // the last data frame had no FIN, or the current frame is a data frame
    bool text = false, compressed = false;  // the current message
    bool ascii = true;  // the current message so far
    bool whole = false;  // the current message has one frame, and the sink has no memory for it
    bool failed = false;
    Utf8 utf8;
    unsigned char header[kMaxFrameHeader];
    struct Control {
        uint8_t size = 0;
        char data[kMaxControlPayload];
    };
    std::unique_ptr<Control> control;  // a control frame in several pieces
};
static_assert(sizeof(FrameState) <= 64);  // of every connection

// Checks the first `size` bytes of a header; `size` grows by one byte or starts complete. `limit`: of a message.
const Violation *check_header(const FrameState &state, const unsigned char *header, size_t size, uint64_t limit,
                              bool may_compress);

inline size_t frame_header_size(unsigned char second) {
    unsigned length = second & 127;
    return 6 + (length < 126 ? 0 : length == 126 ? 2 : 8);
}
uint64_t frame_payload_size(const unsigned char *header);

namespace frame_detail {

template <typename Sink>
[[gnu::cold]] bool fail(FrameState &f, Sink &sink, const Violation &violation) {
    f.failed = true;
    sink.fail(violation);
    return false;
}

// Called before the message is delivered, because its handler may do anything.
inline MessageKind end_message(FrameState &f) {
    MessageKind kind{f.text, f.text && f.ascii && !f.compressed, f.compressed};
    f.in_payload = f.in_message = false;
    f.announced = 0;
    return kind;
}

// Text is checked as it arrives, compressed text after inflating.
inline bool check_text(FrameState &f, const char *data, size_t size, uint64_t seen) {
    if (!f.text || f.compressed) return true;
    if (!(seen & kHighBits)) return f.utf8.complete() || !size;
    f.ascii = false;
    return f.utf8.feed(data, size);
}

template <typename Sink>
bool take_control(FrameState &f, char *data, size_t size, Sink &sink) {
    unmask(data, data, size, f.mask);
    f.mask = rotate_mask(f.mask, size);
    f.left -= size;
    if (!f.left && !f.control) {
        f.in_payload = false;
        return sink.on_control(f.opcode, data, size);
    }
    if (!f.control) f.control.reset(new (std::nothrow) FrameState::Control);
    if (!f.control) return fail(f, sink, kNoMemory);
    memcpy(f.control->data + f.control->size, data, size);
    f.control->size = static_cast<uint8_t>(f.control->size + size);
    if (f.left) return true;
    f.in_payload = false;
    std::unique_ptr<FrameState::Control> control = std::move(f.control);
    return sink.on_control(f.opcode, control->data, control->size);
}

template <typename Sink>
bool take_data(FrameState &f, char *data, size_t size, Sink &sink) {
    const bool is_whole = f.whole && size == f.left;
    char *to = data;
    if (!is_whole) {
        f.whole = false;
        if (size && !(to = sink.room(size, f.left - size, f.fin))) return fail(f, sink, kNoMemory);
    }
    const uint64_t seen = unmask(to, data, size, f.mask);
    if (!check_text(f, to, size, seen)) return fail(f, sink, kBadText);
    f.mask = rotate_mask(f.mask, size);
    f.left -= size;
    if (f.left) return true;
    if (!f.fin) {
        f.in_payload = false;
        return true;
    }
    if (!f.utf8.complete()) return fail(f, sink, kBadText);
    const MessageKind kind = end_message(f);
    return is_whole ? sink.on_message(data, size, kind) : sink.on_assembled(kind);
}

template <typename Sink>
bool begin_frame(FrameState &f, const unsigned char *header, size_t size, Sink &sink) {
    f.opcode = static_cast<Opcode>(header[0] & 15);
    f.left = frame_payload_size(header);
    memcpy(&f.mask, header + size - 4, 4);
    f.in_payload = true;
    f.header_size = 0;
    const Violation *refused = nullptr;
    if (f.opcode >= Opcode::kClose) {
        refused = sink.on_control_frame();
    } else {
        f.fin = header[0] & 0x80;
        if (f.opcode != Opcode::kContinuation) {
            f.text = f.opcode == Opcode::kText;
            f.compressed = header[0] & 0x40;
            f.ascii = true;
            f.in_message = true;
            f.whole = f.fin;
        }
        f.announced += f.left;
        if (!f.fin || f.opcode == Opcode::kContinuation) refused = sink.on_fragment(f.left);
    }
    return !refused || fail(f, sink, *refused);
}

// Reads the header at `p`, or the rest of one. Afterwards p is behind it, or at the end of the buffer.
template <typename Sink>
bool take_header(FrameState &f, char *&p, char *end, Sink &sink) {
    const size_t there = static_cast<size_t>(end - p);
    const size_t limit = sink.limit();
    unsigned char *const bytes = reinterpret_cast<unsigned char *>(p);
    if (!f.header_size && there >= 2 && there >= frame_header_size(bytes[1])) {
        const size_t size = frame_header_size(bytes[1]);
        const Violation *violation = check_header(f, bytes, size, limit, (bytes[0] & 0x40) && sink.may_compress());
        if (violation) return fail(f, sink, *violation);
        p += size;
        return begin_frame(f, bytes, size, sink);
    }
    while (p != end) {
        f.header[f.header_size++] = static_cast<unsigned char>(*p++);
        const Violation *violation =
            check_header(f, f.header, f.header_size, limit, (f.header[0] & 0x40) && sink.may_compress());
        if (violation) return fail(f, sink, *violation);
        if (f.header_size >= 2 && f.header_size == frame_header_size(f.header[1])) {
            return begin_frame(f, f.header, f.header_size, sink);
        }
    }
    return true;
}

// Reads the rest of one frame, as far as it has arrived.
template <typename Sink>
[[gnu::noinline]] bool take_frame(FrameState &f, char *&p, char *end, Sink &sink) {
    if (!f.in_payload && (!take_header(f, p, end, sink) || !f.in_payload)) return false;
    const size_t size = static_cast<size_t>(std::min<uint64_t>(f.left, static_cast<uint64_t>(end - p)));
    if (!size && f.left) return false;  // the buffer ends here
    char *data = p;
    p += size;
    return f.opcode >= Opcode::kClose ? take_control(f, data, size, sink) : take_data(f, data, size, sink);
}

}  // namespace frame_detail

// Returns the end of the parsed bytes: the last byte, or the frame after which the sink stopped. The bytes behind it
// may be parsed later.
template <typename Sink>
char *parse_frames(FrameState &f, char *data, size_t size, Sink &sink) {
    char *p = data, *const end = data + size;
    if (f.failed) return end;
    while (p != end) {
        // The common frame, a whole message of up to 125 bytes, is checked, unmasked and delivered here.
        if (!f.in_payload && !f.in_message && !f.header_size && end - p >= 6) {
            const unsigned char first = static_cast<unsigned char>(p[0]);
            const size_t length = static_cast<unsigned char>(p[1]) ^ 0x80u;  // over 125 if it is not masked
            if ((first == 0x81 || first == 0x82) && length < 126 && static_cast<size_t>(end - p) >= length + 6 &&
                length <= sink.limit()) {
                char *payload = p + 6;
                p += length + 6;
                const uint64_t seen = unmask(payload, payload, length, mask_detail::load<uint32_t>(payload - 4));
                MessageKind kind{first == 0x81, first == 0x81, false};
                if (kind.text && (seen & kHighBits)) {
                    kind.ascii = false;
                    if (!is_utf8({payload, length})) {
                        frame_detail::fail(f, sink, kBadText);
                        return end;
                    }
                }
                if (!sink.on_message(payload, length, kind)) return p;
                continue;
            }
        }
        if (!frame_detail::take_frame(f, p, end, sink)) return f.failed ? end : p;
    }
    return end;
}

}  // namespace uwserve
