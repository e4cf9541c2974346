// permessage-deflate (RFC 7692) without context takeover: messages that are compressed before the run, and their echoes,
// which are inflated once for each form in which a server compresses them and compared from then on.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wire/frames.h"

namespace load {

// JSON, records of an invented kind, deterministic: the same for the same size and number. Padded with spaces.
std::string make_json(size_t size, uint32_t number);

// What a message's payload inflates to. Throws when it can't be, or is larger than `limit`.
std::string inflate_message(std::string_view compressed, size_t limit);

// Distinct messages of one size, with their masked frames. Immutable, for all threads.
class CompressedPool {
  public:
    CompressedPool(size_t size, bool text);
    size_t count() const { return plain_.size(); }
    Opcode opcode() const { return opcode_; }
    const std::string &plain(size_t i) const { return plain_[i]; }
    const std::string &frame(size_t i) const { return frame_[i]; }
    double ratio() const;  // of plain to compressed bytes

  private:
    Opcode opcode_;
    std::vector<std::string> plain_, frame_;
};

// The compressed forms that have been verified, one for each message of the pool. One thread's.
class VerifiedReplies {
  public:
    explicit VerifiedReplies(const CompressedPool &pool) : pool_(pool), known_(pool.count()) {}
    bool matches(size_t i, std::string_view payload, bool compressed);
    uint64_t inflated = 0, plain = 0;  // replies that had to be, and that came uncompressed

  private:
    const CompressedPool &pool_;
    std::vector<std::string> known_;
};

}  // namespace load
