// WebSocket frames as a client sees them: masked ones going out, unmasked ones coming in (RFC 6455 section 5.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace load {

enum Opcode : uint8_t { kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };

// Fixed, so that a payload is masked once for all messages. RFC 6455 section 5.3 wants it unpredictable, to protect
// proxies from browsers' scripts; no server can tell, nor unmask it any faster.
inline constexpr uint8_t kMask[4] = {0x37, 0xfa, 0x21, 0x3d};

// Appends one masked frame, header and all. `compressed` sets RSV1 (RFC 7692 section 6).
void append_frame(std::string &out, Opcode opcode, std::string_view payload, bool compressed = false);

// What a server sends, in pieces of any size. Payload is handed on as it comes, never gathered.
class FrameReader {
  public:
    struct Sink {
        virtual ~Sink() = default;
        virtual void on_payload(Opcode opcode, size_t offset,
                                std::string_view data) = 0;  // of a message, at its offset
        virtual void on_message(Opcode opcode, size_t size, bool compressed) = 0;  // it is complete
        // A message that came in one piece; instead of the two above.
        virtual void on_whole(Opcode opcode, std::string_view data, bool compressed) {
            if (!data.empty()) on_payload(opcode, 0, data);
            on_message(opcode, data.size(), compressed);
        }
        virtual void on_control(Opcode opcode, std::string_view payload) = 0;
    };
    explicit FrameReader(bool may_compress) : may_compress_(may_compress) {}
    // Throws std::runtime_error for a frame that no server may send.
    void read(std::string_view data, Sink &sink);

  private:
    size_t read_whole(std::string_view data, Sink &sink) const;
    size_t read_header(std::string_view data);  // bytes used
    void check_header() const;
    void begin_frame();
    void end_frame(Sink &sink);

    uint8_t header_[10];
    size_t header_have_ = 0, header_need_ = 2;
    bool may_compress_;
    bool in_payload_ = false, fin_ = false, compressed_ = false;
    Opcode frame_ = kContinuation, message_ = kContinuation;  // message_: kContinuation between messages
    uint64_t left_ = 0;
    size_t offset_ = 0;  // in the message
    std::string control_;
};

}  // namespace load
