#include "uws/http/chunked_body.h"

#include <algorithm>

#include "uws/http/head.h"

namespace uwserve {

namespace {

// A size with more digits could not be counted with; leading zeros count, as they have no use but to hide something.
constexpr uint64_t kMaxSizeBeforeDigit = UINT64_MAX >> 4;
// What a chunk may cost without being charged: a plain line, and as much again as its data.
constexpr uint64_t kLineAllowance = 16;

int hex_digit(unsigned char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

bool is_space(unsigned char byte) { return byte == ' ' || byte == '\t'; }

}  // namespace

ChunkedBody::Next ChunkedBody::next(std::string_view &input, std::string_view *data) {
    while (!input.empty()) {
        switch (state_) {
        case State::kData: {
            size_t length = static_cast<size_t>(std::min<uint64_t>(input.size(), size_));
            *data = input.substr(0, length);
            input.remove_prefix(length);
            size_ -= length;
            if (size_ == 0) state_ = State::kDataReturn;
            return Next::kData;
        }
        case State::kTrailers:
            return take_trailers(input);
        case State::kEnd:
            return Next::kEnd;
        case State::kMalformed:
            return Next::kMalformed;
        default:
            if (!take_line_byte(static_cast<unsigned char>(input.front()))) {
                state_ = State::kMalformed;
                return Next::kMalformed;
            }
            input.remove_prefix(1);
        }
    }
    return state_ == State::kEnd ? Next::kEnd : state_ == State::kMalformed ? Next::kMalformed : Next::kMore;
}

// A byte of a chunk's line, or of the line end behind its data. False: it can't be there.
bool ChunkedBody::take_line_byte(unsigned char byte) {
    if (++overhead_ > kMaxOverhead) return false;
    switch (state_) {
    case State::kFirstDigit:
    case State::kDigits: {
        int digit = hex_digit(byte);
        if (digit >= 0) {
            if (size_ > kMaxSizeBeforeDigit) return false;
            size_ = size_ << 4 | static_cast<uint64_t>(digit);
            state_ = State::kDigits;
            return true;
        }
        if (state_ == State::kFirstDigit) return false;
        [[fallthrough]];
    }
    case State::kSpace:
        if (byte == ';') {
            state_ = State::kExtension;
        } else if (is_space(byte)) {
            state_ = State::kSpace;
        } else if (byte == '\r' && state_ == State::kDigits) {
            state_ = State::kLineFeed;
        } else {
            return false;
        }
        return true;
    case State::kExtension:
        if (byte == '\r') {
            state_ = State::kLineFeed;
            return true;
        }
        return is_space(byte) || (byte > ' ' && byte != 0x7f);
    case State::kLineFeed:
        if (byte != '\n') return false;
        end_line();
        return true;
    case State::kDataReturn:
        state_ = State::kDataLineFeed;
        return byte == '\r';
    case State::kDataLineFeed:
        state_ = State::kFirstDigit;
        return byte == '\n';
    default:
        return false;
    }
}

void ChunkedBody::end_line() {
    state_ = size_ ? State::kData : State::kTrailers;
    uint64_t allowance = kLineAllowance + size_;
    overhead_ = allowance > overhead_ ? 0 : overhead_ - static_cast<size_t>(allowance);
}

ChunkedBody::Next ChunkedBody::take_trailers(std::string_view &input) {
    size_t before = trailers_.size();
    trailers_.append(input.substr(0, kMaxTrailerBytes + 2 - before));
    size_t end = find_head_end(trailers_, before);
    if (end == kMalformedHead || (!end && trailers_.size() == kMaxTrailerBytes + 2)) {
        state_ = State::kMalformed;
        return Next::kMalformed;
    }
    if (end) trailers_.resize(end);
    input.remove_prefix(trailers_.size() - before);
    if (!end) return Next::kMore;
    state_ = State::kEnd;
    return Next::kEnd;
}

}  // namespace uwserve
