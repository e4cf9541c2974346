// Incremental UTF-8 validation (RFC 3629): fails at the first byte that can't follow those before it, even inside an
// incomplete character, so that a connection can be failed before the rest of a message arrives. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace uwserve {

class Utf8 {
  public:
    // Checks the next bytes of a text. False: the bytes so far are not the beginning of any UTF-8 text. Then the object
    // must not be used any more.
    bool feed(const char *data, size_t size);
    // False inside a character.
    bool complete() const { return need_ == 0; }

  private:
    bool step(unsigned char byte);
    // How many bytes the current character still needs, and the range of the next of them.
    uint8_t need_ = 0, low_ = 0x80, high_ = 0xBF;
};

inline bool is_utf8(std::string_view text) {
    Utf8 utf8;
    return utf8.feed(text.data(), text.size()) && utf8.complete();
}

bool is_ascii(const char *data, size_t size);

}  // namespace uwserve
