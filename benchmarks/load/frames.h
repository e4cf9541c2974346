// WebSocket frames as a client sees them: masked ones going out, unmasked ones coming in (RFC 6455 section 5.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace load {

enum Opcode : uint8_t { kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };

// Appends one masked frame, header and all.
void append_frame(std::string &out, Opcode opcode, std::string_view payload);

// All messages of a run: the same payload but for a stamp at its start that says whose and which message it is. The
// frame is masked once; each message costs a copy and sixteen bytes.
class MessageShape {
  public:
    static constexpr size_t kStamp = 16;

    MessageShape(size_t size, bool text);
    size_t size() const { return size_; }
    Opcode opcode() const { return opcode_; }
    void append(std::string &out, uint32_t owner, uint32_t number) const;
    // Whether `data` is what message (owner, number) has from `offset` on.
    bool matches(uint32_t owner, uint32_t number, size_t offset, std::string_view data) const;

  private:
    size_t size_, stamp_size_, header_size_;
    Opcode opcode_;
    std::string payload_, frame_;
};

// What a server sends, in pieces of any size. Payload is handed on as it comes, never gathered.
class FrameReader {
  public:
    struct Sink {
        virtual ~Sink() = default;
        virtual void on_payload(Opcode opcode, size_t offset,
                                std::string_view data) = 0;  // of a message, at its offset
        virtual void on_message(Opcode opcode, size_t size) = 0;                            // it is complete
        virtual void on_control(Opcode opcode, std::string_view payload) = 0;
    };
    // Throws std::runtime_error for a frame that no server may send.
    void read(std::string_view data, Sink &sink);

  private:
    size_t read_header(std::string_view data);  // bytes used
    void begin_frame();
    void end_frame(Sink &sink);

    uint8_t header_[10];
    size_t header_have_ = 0, header_need_ = 2;
    bool in_payload_ = false, fin_ = false;
    Opcode frame_ = kContinuation, message_ = kContinuation;  // message_: kContinuation between messages
    uint64_t left_ = 0;
    size_t offset_ = 0;  // in the message
    std::string control_;
};

}  // namespace load
