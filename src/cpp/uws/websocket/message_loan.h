// A received message that is shown where it is stored: in the loop's receive buffer, or in the connection's message
// buffer. If the memory is still in use when the message's event ends, the borrower takes it over, and the loop or the
// connection gets new memory. Loop thread only.
#pragma once

#include "uws/upstream/uwebsockets.h"

namespace uwserve {

class MessageLoan {
  public:
    MessageLoan() = default;
    // No loan if the message is stored elsewhere, or if there is no memory to replace the receive buffer.
    MessageLoan(Socket *ws, std::string_view message) {
        us_loop_t *loop = raw(ws)->context->loop;
        MessageBuffer &message_buffer = message_buffer_of(raw(ws));
        auto is_stored_in = [message](const char *memory, size_t size) {
            return message.data() >= memory && message.data() < memory + size;
        };
        if (is_stored_in(message_buffer.data(), message_buffer.capacity())) {
            message_buffer_ = &message_buffer;
        } else if (is_stored_in(us_loop_recv_buffer(loop), LIBUS_RECV_BUFFER_LENGTH) &&
                   us_loop_prepare_recv_buffer(loop)) {
            loop_ = loop;
        }
    }
    explicit operator bool() const { return loop_ || message_buffer_; }
    // The parser may still be in a receive buffer, further up the stack: it is freed between callbacks.
    bool is_receive_buffer() const { return loop_ != nullptr; }
    // The memory, which the caller frees by free().
    void *take_over() { return message_buffer_ ? message_buffer_->take().release() : us_loop_take_recv_buffer(loop_); }

  private:
    us_loop_t *loop_ = nullptr;  // whose receive buffer it is
    MessageBuffer *message_buffer_ = nullptr;
};

}  // namespace uwserve
