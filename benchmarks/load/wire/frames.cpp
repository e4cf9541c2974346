#include "wire/frames.h"

#include <algorithm>
#include <stdexcept>

namespace load {

namespace {

void append_header(std::string &out, Opcode opcode, size_t size, bool compressed) {
    out += static_cast<char>(0x80 | (compressed ? 0x40 : 0) | opcode);
    int length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out += static_cast<char>(0x80 | (length_bytes == 0 ? size : length_bytes == 2 ? 126 : 127));
    for (int i = length_bytes - 1; i >= 0; i--) out += static_cast<char>(static_cast<uint64_t>(size) >> (8 * i));
    out.append(reinterpret_cast<const char *>(kMask), 4);
}

}  // namespace

void append_frame(std::string &out, Opcode opcode, std::string_view payload, bool compressed) {
    append_header(out, opcode, payload.size(), compressed);
    size_t start = out.size();
    out += payload;
    char *data = out.data() + start;
    for (size_t i = 0; i < payload.size(); i++) data[i] = static_cast<char>(data[i] ^ kMask[i & 3]);
}

// The hot path of small messages: an unfragmented data frame that is there in full. Gives its bytes; 0: it is none.
size_t FrameReader::read_whole(std::string_view data, Sink &sink) const {
    if (data.size() < 2) return 0;
    auto byte = [data](size_t i) { return static_cast<uint8_t>(data[i]); };
    uint8_t first = byte(0), second = byte(1);
    auto opcode = static_cast<Opcode>(first & 15);
    bool compressed = first & 0x40;
    if ((first & 0xb0) != 0x80 || (opcode != kText && opcode != kBinary) || second > 126) return 0;
    if (compressed && !may_compress_) return 0;
    size_t start = 2, size = second;
    if (size == 126) {
        if (data.size() < 4) return 0;
        start = 4;
        size = static_cast<size_t>(byte(2)) << 8 | byte(3);
    }
    if (data.size() - start < size) return 0;
    sink.on_whole(opcode, data.substr(start, size), compressed);
    return start + size;
}

size_t FrameReader::read_header(std::string_view data) {
    size_t used = 0;
    while (header_have_ < header_need_ && used < data.size()) {
        header_[header_have_++] = static_cast<uint8_t>(data[used++]);
        if (header_have_ == 2) {
            check_header();
            header_need_ = header_[1] == 126 ? 4 : header_[1] == 127 ? 10 : 2;
        }
    }
    return used;
}

void FrameReader::check_header() const {
    if (header_[1] & 0x80) throw std::runtime_error("the server sent a masked frame");
    bool may_be_compressed = may_compress_ && (header_[0] & 15) != kContinuation && !(header_[0] & 8);
    if (header_[0] & (may_be_compressed ? 0x30 : 0x70))
        throw std::runtime_error("the server sent a frame with reserved bits");
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
        compressed_ = header_[0] & 0x40;
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
        sink.on_message(opcode, offset_, compressed_);
    }
}

void FrameReader::read(std::string_view data, Sink &sink) {
    while (!data.empty()) {
        if (!in_payload_) {
            if (header_have_ == 0 && message_ == kContinuation) {
                if (size_t used = read_whole(data, sink)) {
                    data.remove_prefix(used);
                    continue;
                }
            }
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
