// Unmasks payloads (RFC 6455 5.3), and finds out whether they are ASCII.
//
// Reads no byte outside of [from, from + size) and writes none outside of [to, to + size), whatever the alignment. The
// last register overlaps the one before if the size is no multiple. Its input is loaded first, so that in place the
// overlap is computed twice from the same bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace uwserve {

constexpr uint64_t kHighBits = 0x8080808080808080;

namespace mask_detail {

typedef uint64_t Vector __attribute__((vector_size(16)));  // SSE2, NEON, or plain code

template <typename T>
inline T load(const void *from) {
    T value;
    memcpy(&value, from, sizeof(T));
    return value;
}
template <typename T>
inline void store(void *to, T value) {
    memcpy(to, &value, sizeof(T));
}

}  // namespace mask_detail

// The mask for the byte `count` bytes further on. A mask has its four bytes in the order of memory.
inline uint32_t rotate_mask(uint32_t mask, size_t count) {
    int bits = static_cast<int>(8 * (count & 3));
    return std::endian::native == std::endian::little ? std::rotr(mask, bits) : std::rotl(mask, bits);
}

// `to` is `from`, or does not overlap it. Returns the bitwise or of all unmasked bytes, in some order: with none of
// kHighBits, they are ASCII.
inline uint64_t unmask(char *to, const char *from, size_t size, uint32_t mask) {
    using namespace mask_detail;
    if (size < 4) {
        if (!size) return 0;
        // First, middle and last byte, some of which may be the same.
        const unsigned char *key = reinterpret_cast<const unsigned char *>(&mask);
        size_t middle = size / 2, last = size - 1;
        unsigned char a = static_cast<unsigned char>(from[0]) ^ key[0];
        unsigned char b = static_cast<unsigned char>(from[middle]) ^ key[middle];
        unsigned char c = static_cast<unsigned char>(from[last]) ^ key[last];
        to[0] = static_cast<char>(a);
        to[middle] = static_cast<char>(b);
        to[last] = static_cast<char>(c);
        return static_cast<uint64_t>(a | b | c);
    }
    if (size < 8) {
        uint32_t first = load<uint32_t>(from) ^ mask, last = load<uint32_t>(from + size - 4) ^ rotate_mask(mask, size);
        store(to, first);
        store(to + size - 4, last);
        return first | last;
    }
    const uint64_t wide = static_cast<uint64_t>(mask) << 32 | mask;
    const uint32_t turned = rotate_mask(mask, size);
    const uint64_t wide_turned = static_cast<uint64_t>(turned) << 32 | turned;
    if (size <= 16) {
        uint64_t first = load<uint64_t>(from) ^ wide, last = load<uint64_t>(from + size - 8) ^ wide_turned;
        store(to, first);
        store(to + size - 8, last);
        return first | last;
    }
    const Vector key = {wide, wide};
    const Vector last = load<Vector>(from + size - 16) ^ Vector { wide_turned, wide_turned };
    Vector seen = last;
    size_t i = 0;
    for (; i + 64 < size; i += 64) {
        Vector a = load<Vector>(from + i) ^ key, b = load<Vector>(from + i + 16) ^ key;
        Vector c = load<Vector>(from + i + 32) ^ key, d = load<Vector>(from + i + 48) ^ key;
        store(to + i, a);
        store(to + i + 16, b);
        store(to + i + 32, c);
        store(to + i + 48, d);
        seen |= (a | b) | (c | d);
    }
    for (; i + 16 < size; i += 16) {
        Vector a = load<Vector>(from + i) ^ key;
        store(to + i, a);
        seen |= a;
    }
    store(to + size - 16, last);
    return seen[0] | seen[1];
}

}  // namespace uwserve
