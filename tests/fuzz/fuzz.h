// fuzz.h - what the fuzz targets share: reading a test case piece by piece.
//
// A target defines LLVMFuzzerTestOneInput and aborts (CHECK) when a promise is broken. Under libFuzzer it is a fuzzer; with
// replay.cpp it is an ordinary test of the seeds and of every input that once found something.
#pragma once

#define CHECK_WITHOUT_MAIN
#include "../cpp/support/check.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

class input_t {
  public:
    input_t(const uint8_t *data, size_t size) : rest_((const char *) data, size) {}
    bool empty() const { return rest_.empty(); }
    // 0 behind the end.
    unsigned byte() {
        if (rest_.empty()) return 0;
        const unsigned char value = (unsigned char) rest_[0];
        rest_.remove_prefix(1);
        return value;
    }
    unsigned word() {
        const unsigned high = byte();
        return high << 8 | byte();
    }
    std::string_view take(size_t size) {
        const std::string_view taken = rest_.substr(0, size);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    std::string_view rest() { return take(rest_.size()); }

  private:
    std::string_view rest_;
};

// Lengths of pieces into which the bytes are cut, taken from a few bytes of the input: both tiny and large ones occur.
class cuts_t {
  public:
    explicit cuts_t(std::string_view pattern) : pattern_(pattern) {}
    size_t next(size_t left) {
        if (pattern_.empty()) return left;
        const unsigned char value = (unsigned char) pattern_[at_++ % pattern_.size()];
        const size_t size = value < 128 ? value % 16 + 1 : (size_t) (value - 127) * 37;
        return size < left ? size : left;
    }

  private:
    std::string_view pattern_;
    size_t at_ = 0;
};
