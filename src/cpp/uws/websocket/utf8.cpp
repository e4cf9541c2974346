// How the vector path works: whether a byte is right depends on itself and the three before it, so sixteen positions are
// judged at once from four loads that are a byte apart. A byte must be a continuation (80..BF) exactly when the one before
// is a lead (C0..), or the second before a lead of three or more (E0..), or the third before a lead of four (F0..); a few
// leads narrow what may follow them (RFC 3629 4). Comparisons are of signed bytes: -128..-65 are the continuations.
// Vectors are the compiler's generic ones (SSE2, NEON, ...), so there is one version for all processors.
#include "uws/websocket/utf8.h"

#include <cstring>

#include "uws/websocket/unmask.h"

namespace uwserve {

namespace {

typedef signed char Bytes __attribute__((vector_size(16)));
constexpr size_t kBlock = sizeof(Bytes);

inline Bytes load(const unsigned char *from) {
    Bytes value;
    memcpy(&value, from, sizeof(value));
    return value;
}

inline bool any(Bytes bytes) {
    mask_detail::Vector words;
    memcpy(&words, &bytes, sizeof(words));
    return (words[0] | words[1]) != 0;
}

constexpr signed char s(int byte) { return static_cast<signed char>(byte); }

// Non-zero where one of the sixteen bytes from p on is wrong after the three before p.
inline Bytes errors(const unsigned char *p) {
    const Bytes now = load(p), one = load(p - 1), two = load(p - 2), three = load(p - 3);
    const Bytes zero = {};
    const Bytes must_continue =
        ((one >= s(0xC0)) & (one < zero)) | ((two >= s(0xE0)) & (two < zero)) | ((three >= s(0xF0)) & (three < zero));
    const Bytes continues = now < s(0xC0);
    Bytes wrong = must_continue ^ continues;
    wrong |= (one == s(0xE0)) & (now < s(0xA0));  // overlong
    wrong |= (one == s(0xED)) & (now > s(0x9F));  // a surrogate
    wrong |= (one == s(0xF0)) & (now < s(0x90));  // overlong
    wrong |= (one == s(0xF4)) & (now > s(0x8F));  // over U+10FFFF
    wrong |= (now & s(0xFE)) == s(0xC0);  // C0, C1: overlong
    wrong |= (now > s(0xF4)) & (now < zero);
    return wrong;
}

inline bool is_ascii_block(const unsigned char *p) {
    return !((mask_detail::load<uint64_t>(reinterpret_cast<const char *>(p)) |
              mask_detail::load<uint64_t>(reinterpret_cast<const char *>(p + 8))) &
             kHighBits);
}

// The start of the character that may be unfinished before p; p if there is none. All before p is right.
inline const unsigned char *unfinished(const unsigned char *start, const unsigned char *p) {
    for (int back = 1; back <= 3 && p - back >= start; back++) {
        unsigned char byte = p[-back];
        if (byte < 0x80) break;
        if (byte >= 0xC0) return byte >= (back == 1 ? 0xC0 : back == 2 ? 0xE0 : 0xF0) ? p - back : p;
    }
    return p;
}

// From a character's start on, whole blocks. Returns where to go on byte by byte, at a character's start; nullptr: wrong.
const unsigned char *check_blocks(const unsigned char *start, const unsigned char *end) {
    unsigned char first[3 + kBlock] = {};
    memcpy(first + 3, start, kBlock);
    Bytes wrong = errors(first + 3);
    const unsigned char *p = start + kBlock;
    while (static_cast<size_t>(end - p) >= 4 * kBlock) {
        wrong |= (errors(p) | errors(p + kBlock)) | (errors(p + 2 * kBlock) | errors(p + 3 * kBlock));
        if (any(wrong)) return nullptr;
        p += 4 * kBlock;
        if (p[-1] >= 0x80) continue;
        while (static_cast<size_t>(end - p) >= kBlock && is_ascii_block(p)) p += kBlock;
    }
    for (; static_cast<size_t>(end - p) >= kBlock; p += kBlock) wrong |= errors(p);
    return any(wrong) ? nullptr : unfinished(start, p);
}

}  // namespace

inline bool Utf8::step(unsigned char byte) {
    if (need_) {
        if (byte < low_ || byte > high_) return false;
        need_--;
        low_ = 0x80;
        high_ = 0xBF;
        return true;
    }
    if (byte < 0x80) return true;
    if (byte < 0xC2 || byte > 0xF4) return false;
    need_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    if (byte == 0xE0) low_ = 0xA0;
    if (byte == 0xED) high_ = 0x9F;
    if (byte == 0xF0) low_ = 0x90;
    if (byte == 0xF4) high_ = 0x8F;
    return true;
}

bool Utf8::feed(const char *data, size_t size) {
    const unsigned char *p = reinterpret_cast<const unsigned char *>(data), *end = p + size;
    for (; need_ && p != end; p++) {
        if (!step(*p)) return false;
    }
    while (static_cast<size_t>(end - p) >= kBlock && is_ascii_block(p)) p += kBlock;
    if (static_cast<size_t>(end - p) >= kBlock) {
        p = check_blocks(p, end);
        if (!p) return false;
    }
    for (; p != end; p++) {
        if (!step(*p)) return false;
    }
    return true;
}

bool is_ascii(const char *data, size_t size) {
    uint64_t seen = 0;
    size_t i = 0;
    for (; i + 32 <= size; i += 32) {
        const mask_detail::Vector both =
            mask_detail::load<mask_detail::Vector>(data + i) | mask_detail::load<mask_detail::Vector>(data + i + 16);
        if ((both[0] | both[1]) & kHighBits) return false;
    }
    for (; i + 8 <= size; i += 8) seen |= mask_detail::load<uint64_t>(data + i);
    for (; i < size; i++) seen |= static_cast<unsigned char>(data[i]);
    return !(seen & kHighBits);
}

}  // namespace uwserve
