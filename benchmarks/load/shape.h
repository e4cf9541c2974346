// The messages of a run: one payload for all, but for a stamp at its start that says whose and which message it is.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "wire/frames.h"
#include "wire/outbox.h"

namespace load {

static_assert(std::endian::native == std::endian::little);

// Sixteen letters, so that it is text, too: eight for the owner, eight for the number, lowest digit first.
struct Stamp {
    static constexpr size_t kSize = 16;
    uint32_t owner, number;

    void write(char *out) const {
        uint64_t letters[2] = {spread(owner), spread(number)};
        memcpy(out, letters, kSize);
    }
    // False: `data` begins with none.
    static bool read(const char *data, Stamp &stamp) {
        uint64_t letters[2];
        memcpy(letters, data, kSize);
        return gather(letters[0], stamp.owner) && gather(letters[1], stamp.number);
    }

  private:
    static constexpr uint64_t kLetters = 0x6161616161616161;  // a digit is one of 'a' to 'p'
    static uint64_t spread(uint32_t n) {
        uint64_t x = n;
        x = (x | x << 16) & 0x0000ffff0000ffff;
        x = (x | x << 8) & 0x00ff00ff00ff00ff;
        x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
        return x + kLetters;
    }
    static bool gather(uint64_t letters, uint32_t &n) {
        uint64_t x = letters - kLetters;
        if (x & 0xf0f0f0f0f0f0f0f0) return false;
        x = (x | x >> 4) & 0x00ff00ff00ff00ff;
        x = (x | x >> 8) & 0x0000ffff0000ffff;
        n = static_cast<uint32_t>(x | x >> 16);
        return true;
    }
};

// The frame is masked once. A small message costs a copy and sixteen bytes, a large one only the latter.
class MessageShape {
  public:
    MessageShape(size_t size, bool text);
    size_t size() const { return payload_.size(); }
    Opcode opcode() const { return opcode_; }
    // The shape must outlive the outbox's use of it.
    void append(Outbox &out, Stamp stamp) const;
    // Whether `data` is what that message has from `offset` on.
    bool matches(Stamp stamp, size_t offset, std::string_view data) const;
    // Whether it is all of it.
    bool matches_whole(Stamp stamp, Opcode opcode, std::string_view data) const {
        return opcode == opcode_ && data.size() == payload_.size() && matches(stamp, 0, data);
    }

  private:
    static constexpr size_t kMaxCopied = 4096;
    size_t stamp_size_, header_size_;
    Opcode opcode_;
    std::string payload_, frame_;
};

}  // namespace load
