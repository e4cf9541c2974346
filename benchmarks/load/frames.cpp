#include "frames.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace load {

namespace {

// Any key does, as long as no server can take it for "not masked".
constexpr uint8_t kMask[4] = {0x37, 0xfa, 0x21, 0x3d};

void append_header(std::string &out, Opcode opcode, size_t size) {
    out += static_cast<char>(0x80 | opcode);
    int length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out += static_cast<char>(0x80 | (length_bytes == 0 ? size : length_bytes == 2 ? 126 : 127));
    for (int i = length_bytes - 1; i >= 0; i--) out += static_cast<char>(static_cast<uint64_t>(size) >> (8 * i));
    out.append(reinterpret_cast<const char *>(kMask), 4);
}

void mask(char *data, size_t size) {
    for (size_t i = 0; i < size; i++) data[i] = static_cast<char>(data[i] ^ kMask[i & 3]);
}

// Letters, so that it is text, too: eight for the owner, eight for the number.
void make_stamp(char *out, uint32_t owner, uint32_t number) {
    for (int i = 0; i < 8; i++) {
        out[i] = static_cast<char>('a' + (owner >> (4 * i) & 15));
        out[8 + i] = static_cast<char>('a' + (number >> (4 * i) & 15));
    }
}

}  // namespace

void append_frame(std::string &out, Opcode opcode, std::string_view payload) {
    append_header(out, opcode, payload.size());
    size_t start = out.size();
    out += payload;
    mask(out.data() + start, payload.size());
}

MessageShape::MessageShape(size_t size, bool text)
    : size_(size), stamp_size_(std::min(size, kStamp)), opcode_(text ? kText : kBinary), payload_(size, '\0') {
    uint32_t random = 12345;
    for (char &c : payload_) {
        random = random * 1664525 + 1013904223;
        c = static_cast<char>(text ? ' ' + (random >> 24) % 95 : random >> 24);
    }
    append_frame(frame_, opcode_, payload_);
    header_size_ = frame_.size() - size;
}

void MessageShape::append(std::string &out, uint32_t owner, uint32_t number) const {
    size_t start = out.size() + header_size_;
    out += frame_;
    char stamp[kStamp];
    make_stamp(stamp, owner, number);
    mask(stamp, kStamp);
    memcpy(out.data() + start, stamp, stamp_size_);
}

bool MessageShape::matches(uint32_t owner, uint32_t number, size_t offset, std::string_view data) const {
    if (offset + data.size() > size_) return false;
    size_t stamped = offset < stamp_size_ ? std::min(stamp_size_ - offset, data.size()) : 0;
    if (stamped) {
        char stamp[kStamp];
        make_stamp(stamp, owner, number);
        if (memcmp(stamp + offset, data.data(), stamped) != 0) return false;
    }
    return memcmp(payload_.data() + offset + stamped, data.data() + stamped, data.size() - stamped) == 0;
}

size_t FrameReader::read_header(std::string_view data) {
    size_t used = 0;
    while (header_have_ < header_need_ && used < data.size()) {
        header_[header_have_++] = static_cast<uint8_t>(data[used++]);
        if (header_have_ == 2) {
            if (header_[1] & 0x80) throw std::runtime_error("the server sent a masked frame");
            if (header_[0] & 0x70) throw std::runtime_error("the server sent a frame with reserved bits");
            header_need_ = header_[1] == 126 ? 4 : header_[1] == 127 ? 10 : 2;
        }
    }
    return used;
}

void FrameReader::begin_frame() {
    fin_ = header_[0] & 0x80;
    frame_ = static_cast<Opcode>(header_[0] & 15);
    left_ = header_[1];
    if (header_need_ > 2) left_ = 0;
    for (size_t i = 2; i < header_need_; i++) left_ = left_ << 8 | header_[i];
    if (frame_ >= kClose) {
        if (left_ > 125 || !fin_)
            throw std::runtime_error("the server sent a control frame that is too long or fragmented");
        control_.clear();
    } else if (frame_ == kContinuation) {
        if (message_ == kContinuation) throw std::runtime_error("the server sent a continuation without a message");
    } else {
        if (message_ != kContinuation) throw std::runtime_error("the server began a message inside another");
        message_ = frame_;
        offset_ = 0;
    }
    in_payload_ = true;
}

void FrameReader::end_frame(Sink &sink) {
    in_payload_ = false;
    header_have_ = 0;
    header_need_ = 2;
    if (frame_ >= kClose) {
        sink.on_control(frame_, control_);
    } else if (fin_) {
        Opcode opcode = message_;
        message_ = kContinuation;
        sink.on_message(opcode, offset_);
    }
}

void FrameReader::read(std::string_view data, Sink &sink) {
    while (!data.empty()) {
        if (!in_payload_) {
            data.remove_prefix(read_header(data));
            if (header_have_ < header_need_) return;
            begin_frame();
        }
        std::string_view piece = data.substr(0, static_cast<size_t>(std::min<uint64_t>(left_, data.size())));
        left_ -= piece.size();
        data.remove_prefix(piece.size());
        if (frame_ >= kClose) {
            control_ += piece;
        } else if (!piece.empty()) {
            sink.on_payload(message_, offset_, piece);
            offset_ += piece.size();
        }
        if (left_ == 0) end_frame(sink);
    }
}

}  // namespace load
