// Incremental UTF-8 validation (RFC 3629): false at the first byte that can't continue what came before, also inside an
// unfinished character, so that a connection can be failed before the rest of a message has arrived.
//
// No state but the unfinished character's; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace uwserve {

class Utf8 {
  public:
    // Takes the next bytes of a text. False: what was fed so far is not the beginning of any UTF-8 text; the state is then
    // of no more use.
    bool feed(const char *data, size_t size);
    // Nothing of an unfinished character is pending.
    bool complete() const { return need_ == 0; }

  private:
    bool step(unsigned char byte);
    // How many bytes the current character still needs, and what the next of them may be.
    uint8_t need_ = 0, low_ = 0x80, high_ = 0xBF;
};

inline bool is_utf8(std::string_view text) {
    Utf8 utf8;
    return utf8.feed(text.data(), text.size()) && utf8.complete();
}

bool is_ascii(const char *data, size_t size);

}  // namespace uwserve
