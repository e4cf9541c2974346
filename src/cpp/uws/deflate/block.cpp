#include "uws/deflate/block.h"

#include <bit>
#include <cstdint>
#include <cstring>

namespace uwserve {

namespace {

constexpr unsigned kDynamic = 2;
constexpr unsigned kEndOfBlock = 256;
constexpr unsigned kMaxBits = 15, kLengthCodes = 19, kLengthBits = 7;

// Reads bits, the least significant of each byte first; behind the end, zeros.
class Bits {
  public:
    Bits(const char *data, size_t size) : data_(reinterpret_cast<const unsigned char *>(data)), size_(size) {}
    // At most 16.
    unsigned peek(unsigned count) {
        while (filled_ < count) {
            held_ |= static_cast<uint64_t>(at_ < size_ ? data_[at_] : 0) << filled_;
            at_++;
            filled_ += 8;
        }
        return static_cast<unsigned>(held_ & ((1u << count) - 1));
    }
    void skip(unsigned count) {
        held_ >>= count;
        filled_ -= count;
    }
    unsigned take(unsigned count) {
        unsigned value = peek(count);
        skip(count);
        return value;
    }

  private:
    const unsigned char *data_;
    size_t size_, at_ = 0;
    uint64_t held_ = 0;
    unsigned filled_ = 0;
};

// Computes the first code of each length, in the canonical order of section 3.2.2.
void first_codes(const unsigned (&counts)[kMaxBits + 1], unsigned (&first)[kMaxBits + 1]) {
    first[0] = 0;
    for (unsigned bits = 1, code = 0; bits <= kMaxBits; bits++) {
        code = (code + (bits > 1 ? counts[bits - 1] : 0)) << 1;
        first[bits] = code;
    }
}

// Fills the table that maps the next seven bits to the symbol that they begin with, and to the length of its code:
// (symbol << 3 | length). False: the code is not complete.
bool code_of_lengths(Bits &bits, unsigned used, uint8_t (&table)[1 << kLengthBits]) {
    constexpr uint8_t kOrder[kLengthCodes] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[kLengthCodes] = {};
    unsigned counts[kMaxBits + 1] = {}, next[kMaxBits + 1];
    for (unsigned i = 0; i < used; i++) counts[lengths[kOrder[i]] = static_cast<uint8_t>(bits.take(3))]++;
    unsigned space = 0;
    for (unsigned length = 1; length <= kLengthBits; length++) space += counts[length] << (kLengthBits - length);
    if (space != 1 << kLengthBits) return false;
    first_codes(counts, next);
    for (unsigned symbol = 0; symbol < kLengthCodes; symbol++) {
        unsigned length = lengths[symbol];
        if (!length) continue;
        // Codes are packed from their most significant bit on.
        unsigned code = next[length]++, reversed = 0;
        for (unsigned i = 0; i < length; i++) reversed |= (code >> i & 1) << (length - 1 - i);
        for (unsigned at = reversed; at < 1 << kLengthBits; at += 1 << length) {
            table[at] = static_cast<uint8_t>(symbol << 3 | length);
        }
    }
    return true;
}

// Reads from the header of a dynamic block how many zeros the code of "end of block" ends with. Nothing: the code is
// all zeros, or invalid.
std::optional<unsigned> zeros_of_end(Bits &bits) {
    unsigned literals = kEndOfBlock + 1 + bits.take(5);
    bits.take(5);  // the number of distance codes, which follow
    uint8_t table[1 << kLengthBits];
    if (!code_of_lengths(bits, bits.take(4) + 4, table)) return std::nullopt;
    unsigned counts[kMaxBits + 1] = {}, first[kMaxBits + 1], before_end[kMaxBits + 1];
    unsigned end_length = 0, last = 0, symbol = 0;
    while (symbol < literals) {
        unsigned entry = table[bits.peek(kLengthBits)], repeat = 1;
        bits.skip(entry & 7);
        unsigned length = entry >> 3;
        if (length == 16) {
            length = last;
            repeat = 3 + bits.take(2);
        } else if (length > 16) {
            repeat = length == 17 ? 3 + bits.take(3) : 11 + bits.take(7);
            length = 0;
        }
        last = length;
        for (; repeat && symbol < literals; repeat--, symbol++) {  // the other repeats are of distance codes
            if (symbol == kEndOfBlock) {
                end_length = length;
                memcpy(before_end, counts, sizeof counts);
            }
            counts[length]++;
        }
    }
    if (!end_length) return std::nullopt;
    first_codes(counts, first);
    unsigned code = first[end_length] + before_end[end_length];
    if (!code) return std::nullopt;
    return std::countr_zero(code);
}

}  // namespace

std::optional<size_t> open_stream(char *stream, size_t length) {
    Bits bits(stream, length);
    // The first block is the final one. Only a dynamic block defines its own code for "end of block".
    if (!length || bits.take(1) != 1 || bits.take(2) != kDynamic) return std::nullopt;
    std::optional<unsigned> zeros = zeros_of_end(bits);
    if (!zeros) return std::nullopt;
    // Only zeros follow the code of "end of block", so the last bit that is set belongs to it.
    size_t last = length;
    while (last && !stream[last - 1]) last--;
    if (!last) return std::nullopt;
    size_t end = 8 * last - static_cast<size_t>(std::countl_zero(static_cast<uint8_t>(stream[last - 1]))) + *zeros;
    if (end > 8 * length || 8 * length - end > 7) return std::nullopt;
    stream[0] = static_cast<char>(stream[0] & ~1);
    // The three bits that begin a stored block are zeros. The padding has them, or one more byte does.
    if (8 * length - end < 3) stream[length++] = 0;
    return length;
}

}  // namespace uwserve
