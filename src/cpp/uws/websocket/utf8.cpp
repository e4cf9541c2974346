// How the vector path works: whether a byte is valid depends on itself and the three before it, so sixteen positions
// are checked at once from four loads that are a byte apart. A byte must be a continuation (80..BF) exactly when the
// byte before it is a lead (C0..), the second before it a lead of three or more (E0..), or the third a lead of four
// (F0..). A few leads narrow the range of the next byte (RFC 3629 4). Bytes are compared as signed: continuations are
// -128..-65. The vectors are the compiler's generic ones (SSE2, NEON, ...), so there is one version for all processors.
#include "uws/websocket/utf8.h"

#include <cstring>

#include "uws/websocket/unmask.h"

namespace uwserve {

namespace {

using mask_detail::load;
using mask_detail::Vector;

typedef signed char Bytes __attribute__((vector_size(16)));
constexpr size_t kBlock = sizeof(Bytes);

inline bool any(Bytes bytes) {
    const auto words = load<Vector>(&bytes);
    return (words[0] | words[1]) != 0;
}

constexpr signed char s(int byte) { return static_cast<signed char>(byte); }

// Non-zero where one of the sixteen bytes from p on is wrong; reads three bytes before p.
inline Bytes errors(const unsigned char *p) {
    const Bytes now = load<Bytes>(p), one = load<Bytes>(p - 1), two = load<Bytes>(p - 2), three = load<Bytes>(p - 3);
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
    return !((load<uint64_t>(p) | load<uint64_t>(p + 8)) & kHighBits);
}

// The start of the incomplete character before p; p if there is none. All bytes before p are valid.
inline const unsigned char *unfinished(const unsigned char *start, const unsigned char *p) {
    for (int back = 1; back <= 3 && p - back >= start; back++) {
        unsigned char byte = p[-back];
        if (byte < 0x80) break;
        if (byte >= 0xC0) return byte >= (back == 1 ? 0xC0 : back == 2 ? 0xE0 : 0xF0) ? p - back : p;
    }
    return p;
}

// Checks whole blocks from the start of a character on. Returns the start of a character, from where the caller goes on
// byte by byte; nullptr: wrong.
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
        const Vector both = load<Vector>(data + i) | load<Vector>(data + i + 16);
        if ((both[0] | both[1]) & kHighBits) return false;
    }
    for (; i + 8 <= size; i += 8) seen |= load<uint64_t>(data + i);
    for (; i < size; i++) seen |= static_cast<unsigned char>(data[i]);
    return !(seen & kHighBits);
}

}  // namespace uwserve
