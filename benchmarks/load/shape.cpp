#include "shape.h"

#include <algorithm>

namespace load {

namespace {

std::string make_payload(size_t size, bool text) {
    std::string payload(size, '\0');
    uint32_t random = 12345;
    for (char &c : payload) {
        random = random * 1664525 + 1013904223;
        c = static_cast<char>(text ? ' ' + (random >> 24) % 95 : random >> 24);
    }
    return payload;
}

}  // namespace

MessageShape::MessageShape(size_t size, bool text)
    : stamp_size_(std::min(size, Stamp::kSize)), opcode_(text ? kText : kBinary), payload_(make_payload(size, text)) {
    append_frame(frame_, opcode_, payload_);
    header_size_ = frame_.size() - size;
}

void MessageShape::append(Outbox &out, Stamp stamp) const {
    char masked[Stamp::kSize];
    stamp.write(masked);
    for (size_t i = 0; i < Stamp::kSize; i++) masked[i] = static_cast<char>(masked[i] ^ kMask[i & 3]);
    std::string &own = out.own();
    size_t start = own.size() + header_size_;
    if (frame_.size() <= kMaxCopied) {
        own += frame_;
    } else {
        size_t head = header_size_ + stamp_size_;
        own.append(frame_, 0, head);
        out.share(std::string_view(frame_).substr(head));
    }
    memcpy(own.data() + start, masked, stamp_size_);
}

bool MessageShape::matches(Stamp stamp, size_t offset, std::string_view data) const {
    if (offset + data.size() > payload_.size()) return false;
    size_t stamped = offset < stamp_size_ ? std::min(stamp_size_ - offset, data.size()) : 0;
    if (stamped) {
        char expected[Stamp::kSize];
        stamp.write(expected);
        if (memcmp(expected + offset, data.data(), stamped) != 0) return false;
    }
    return memcmp(payload_.data() + offset + stamped, data.data() + stamped, data.size() - stamped) == 0;
}

}  // namespace load
