// Unmasking and UTF-8 validation, against definitions that are slow and plain.
#include <cstdint>
#include <random>
#include <string>

#include "check.h"
#include "uws/websocket/utf8.h"
#include "uws/websocket/unmask.h"

using namespace uwserve;

namespace {

enum Verdict { kWrong, kUnfinished, kComplete };

// By code points: a character is right as far as it is there when some of the code points that it can still become is
// one that needs this many bytes, is no surrogate and not over U+10FFFF.
Verdict reference(const unsigned char *p, size_t size) {
    for (size_t i = 0; i < size;) {
        const unsigned first = p[i];
        if (first < 0x80) {
            i++;
            continue;
        }
        const size_t length = first >= 0xF8 ? 0 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 0;
        if (!length) return kWrong;
        uint32_t low = first & (0x7Fu >> length), high;
        size_t there = 1;
        for (; there < length && i + there < size; there++) {
            if ((p[i + there] & 0xC0) != 0x80) return kWrong;
            low = low << 6 | (p[i + there] & 0x3F);
        }
        const unsigned missing = static_cast<unsigned>(6 * (length - there));
        low <<= missing;
        high = low | ((1u << missing) - 1);
        const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
        const uint32_t most = length == 2 ? 0x7FF : length == 3 ? 0xFFFF : 0x10FFFF;
        low = low < least ? least : low;
        high = high > most ? most : high;
        if (low > high || (low >= 0xD800 && high <= 0xDFFF)) return kWrong;
        if (there < length) return kUnfinished;
        i += length;
    }
    return kComplete;
}

Verdict verdict(const std::string &text) {
    Utf8 utf8;
    if (!utf8.feed(text.data(), text.size())) return kWrong;
    return utf8.complete() ? kComplete : kUnfinished;
}

Verdict reference(const std::string &text) {
    return reference(reinterpret_cast<const unsigned char *>(text.data()), text.size());
}

void check_at_every_split(const std::string &text) {
    const Verdict expected = reference(text);
    for (size_t split = 0; split <= text.size(); split++) {
        Utf8 utf8;
        const std::string head(text, 0, split), rest(text, split);
        const bool head_right = utf8.feed(head.data(), head.size());
        CHECK(head_right == (reference(head) != kWrong));
        if (!head_right) continue;
        const bool rest_right = utf8.feed(rest.data(), rest.size());
        CHECK(rest_right == (expected != kWrong));
        if (rest_right) CHECK(utf8.complete() == (expected == kComplete));
    }
}

// The bytes at which some rule begins or ends.
constexpr unsigned char kEdges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
                                    0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF};

const std::string kSamples[] = {"a",
                                "\xC2\x80",
                                "\xDF\xBF",
                                "\xE0\xA0\x80",
                                "\xED\x9F\xBF",
                                "\xEF\xBF\xBF",
                                "\xF0\x90\x80\x80",
                                "\xF4\x8F\xBF\xBF"};

}  // namespace

TEST(every_sequence_of_up_to_three_bytes) {
    unsigned char bytes[3];
    for (unsigned value = 0; value < 1u << 24; value++) {
        bytes[0] = static_cast<unsigned char>(value >> 16);
        bytes[1] = static_cast<unsigned char>(value >> 8);
        bytes[2] = static_cast<unsigned char>(value);
        const size_t sizes[] = {3, 2, 1};
        // Shorter ones once each, where the bytes behind are zero.
        const size_t shortest = (value & 0xFFFF) == 0 ? 1 : (value & 0xFF) == 0 ? 2 : 3;
        for (size_t size : sizes) {
            if (size < shortest) break;
            Utf8 utf8;
            const bool right = utf8.feed(reinterpret_cast<char *>(bytes), size);
            const Verdict expected = reference(bytes, size);
            if (right != (expected != kWrong) || (right && utf8.complete() != (expected == kComplete))) {
                fprintf(stderr, "%02x %02x %02x, %zu of them\n", bytes[0], bytes[1], bytes[2], size);
                CHECK(false);
            }
        }
    }
}

TEST(four_bytes_byte_by_byte) {
    unsigned char bytes[4];
    for (unsigned first = 0x80; first < 0x100; first++) {
        for (unsigned second = 0; second < 0x100; second++) {
            for (unsigned char third : kEdges) {
                for (unsigned char fourth : kEdges) {
                    bytes[0] = static_cast<unsigned char>(first);
                    bytes[1] = static_cast<unsigned char>(second);
                    bytes[2] = third;
                    bytes[3] = fourth;
                    Utf8 utf8;
                    for (size_t i = 0; i < 4; i++) {
                        const bool right = utf8.feed(reinterpret_cast<char *>(bytes) + i, 1);
                        const Verdict expected = reference(bytes, i + 1);
                        CHECK(right == (expected != kWrong));
                        if (!right) break;
                        CHECK(utf8.complete() == (expected == kComplete));
                    }
                }
            }
        }
    }
}

// The vector path: everything short at every place of a text of some blocks, in ASCII and among other characters.
TEST(sequences_at_every_place_of_a_long_text) {
    for (const std::string around : {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
        std::string filler;
        while (filler.size() < 48) filler += around;
        for (unsigned char first : kEdges) {
            for (unsigned char second : kEdges) {
                for (unsigned char third : kEdges) {
                    const std::string middle{static_cast<char>(first), static_cast<char>(second),
                                             static_cast<char>(third)};
                    for (size_t before = 0; before <= 20; before++) {
                        const std::string text = std::string(before, 'y') + around + middle + filler;
                        CHECK_EQ(verdict(text), reference(text));
                    }
                }
            }
        }
    }
}

TEST(texts_cut_and_spoilt_at_every_byte_and_split) {
    std::mt19937 random(1);
    for (int round = 0; round < 300; round++) {
        std::string text;
        const size_t size = random() % 150;
        while (text.size() < size) {
            if (random() % 4 == 0) text.append(random() % 30, 'a');
            text += kSamples[random() % std::size(kSamples)];
        }
        check_at_every_split(text);
        check_at_every_split(text.substr(0, text.size() - random() % (text.size() + 1)));
        if (!text.empty()) {
            text[random() % text.size()] = static_cast<char>(kEdges[random() % std::size(kEdges)]);
            check_at_every_split(text);
        }
    }
}

TEST(large_texts) {
    std::mt19937 random(2);
    for (const std::string &sample : kSamples) {
        std::string text;
        while (text.size() < 100'000) text += sample;
        CHECK_EQ(verdict(text), kComplete);
        for (int round = 0; round < 50; round++) {
            std::string spoilt = text;
            spoilt[random() % spoilt.size()] = static_cast<char>(kEdges[random() % std::size(kEdges)]);
            CHECK_EQ(verdict(spoilt), reference(spoilt));
        }
    }
}

TEST(ascii) {
    for (size_t size = 0; size < 100; size++) {
        std::string text(size, '\x7F');
        CHECK(is_ascii(text.data(), size));
        for (size_t i = 0; i < size; i++) {
            text[i] = '\x80';
            CHECK(!is_ascii(text.data(), size));
            text[i] = '\x7F';
        }
    }
}

// Every size and alignment: the right bytes, none beside them, and the high bits exactly when there are some.
TEST(unmasking) {
    const unsigned char key[4] = {0x11, 0xE2, 0x34, 0x87};
    uint32_t mask;
    memcpy(&mask, key, 4);
    for (size_t size = 0; size <= 300; size++) {
        for (size_t at = 0; at < 17; at++) {
            std::string in(at + size + 40, '\x55'), plain(in);
            for (size_t i = 0; i < size; i++) {
                plain[at + i] = static_cast<char>((i * 7 + size) & 0x7F);
                in[at + i] = static_cast<char>(static_cast<unsigned char>(plain[at + i]) ^ key[i % 4]);
            }
            const size_t shift = (at * 5) % 17;
            std::string out(shift + size + 40, '\x66');
            CHECK(!(unmask(out.data() + shift, in.data() + at, size, mask) & kHighBits));
            CHECK(out == std::string(shift, '\x66') + plain.substr(at, size) + std::string(40, '\x66'));
            if (size) {
                std::string high = in;
                high[at + (size * 13) % size] ^= '\x80';
                high[at + (size * 29 + 7) % size] ^= at % 2 ? '\x80' : '\0';
                bool expected = false;
                for (size_t i = 0; i < size; i++) expected |= ((high[at + i] ^ key[i % 4]) & 0x80) != 0;
                CHECK(!!(unmask(high.data() + at, high.data() + at, size, mask) & kHighBits) == expected);
            }
            unmask(in.data() + at, in.data() + at, size, mask);
            CHECK(in == plain);
        }
    }
}

TEST(one_high_bit_at_every_place) {
    for (size_t size = 1; size <= 200; size++) {
        for (size_t i = 0; i < size; i++) {
            std::string text(size, '\0');
            text[i] = '\x80';
            CHECK(unmask(text.data(), text.data(), size, 0) & kHighBits);
        }
    }
}

TEST(masks_turn) {
    const unsigned char key[4] = {1, 2, 3, 4};
    uint32_t mask;
    memcpy(&mask, key, 4);
    for (size_t count = 0; count < 10; count++) {
        const uint32_t turned = rotate_mask(mask, count);
        unsigned char bytes[4];
        memcpy(bytes, &turned, 4);
        for (size_t i = 0; i < 4; i++) CHECK_EQ(bytes[i], key[(i + count) % 4]);
    }
}
