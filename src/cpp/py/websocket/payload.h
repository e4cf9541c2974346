// Messages between Python and the wire: the bytes of a str or buffer going out, the object for a message coming in.
#pragma once

#include <string_view>

#include "py/interpreter/ref.h"
#include "uws/websocket/backpressure.h"

namespace uwserve {

constexpr size_t kMaxMessageBytes = 256u << 20;  // lengths in uWebSockets are int (defect S10)

enum class BinaryType : uint8_t { kBytes, kByteArray, kMemoryView };
enum class PayloadKind { kAny, kText, kBinary };

// The bytes of an outgoing message. Reading a buffer can run Python code, so it comes before any look at native state.
// The view is valid as long as this object.
class Payload {
  public:
    Payload() = default;
    ~Payload() {
        if (has_buffer_) guarded<PyBuffer_Release>(&buffer_);
    }
    Payload(const Payload &) = delete;
    Payload &operator=(const Payload &) = delete;

    // False with TypeError, ValueError or UnicodeEncodeError set; `what` names the argument.
    bool read(PyObject *object, PayloadKind kind, const char *what);
    std::string_view view() const { return view_; }
    bool is_text() const { return is_text_; }
    Opcode opcode() const { return is_text_ ? Opcode::kText : Opcode::kBinary; }

  private:
    bool read_buffer(PyObject *object, PayloadKind kind, const char *what);
    std::string_view view_;
    Py_buffer buffer_;
    bool has_buffer_ = false;
    bool is_text_ = false;
};

// What send() and publish() return: bytes; -1: queued with backpressure; 0: dropped. Not for kNoMemory.
inline Py_ssize_t answer_of(SendResult result, size_t size) {
    if (result == SendResult::kSent) [[likely]]
        return static_cast<Py_ssize_t>(size);
    return result == SendResult::kQueued ? -1 : 0;
}

// A str from valid UTF-8, which may be known to be ASCII; NULL with an exception set.
PyObject *decode_text(std::string_view utf8, bool is_ascii);

// The memory of a received message's characters or bytes; 0 for a memoryview, which is released before its handler
// suspends.
size_t message_bytes(PyObject *message);

// The UTF-8 of a str. False with TypeError, which names it, or UnicodeEncodeError set.
bool read_text(PyObject *object, const char *name, std::string_view *text);
// The same for a topic name, which is not empty and not over 65,535 bytes.
bool read_topic(PyObject *object, std::string_view *topic);

}  // namespace uwserve
