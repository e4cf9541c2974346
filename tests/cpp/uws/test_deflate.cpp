// test_deflate.cpp - the codec by itself: every window against zlib with just that window, limits to the byte, input of
// every kind, and what happens without memory (Z4-Z6).
#include "uws/deflate/block.h"
#include "uws/deflate/codec.h"

#include <zlib.h>

#include <algorithm>
#include <string>

#include "check.h"

using namespace uwserve;

static std::string noise(size_t length, unsigned seed) {
    std::string out(length, 0);
    for (char &c : out) {
        seed = seed * 1664525u + 1013904223u;
        c = (char) (seed >> 24);
    }
    return out;
}

static std::string repeated(const std::string &text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; i++) out += text;
    return out;
}

static std::string text_of(size_t length) {
    std::string out;
    for (unsigned i = 0; out.size() < length; i++) {
        out += "{\"id\": " + std::to_string(i * 7919u % 10007u) + ", \"name\": \"user\", \"active\": true},";
    }
    out.resize(length);
    return out;
}

// zlib itself as the peer, with a window of `bits` and a context of its own.
struct peer_t {
    z_stream stream{};
    explicit peer_t(int bits) { CHECK_EQ(inflateInit2(&stream, -bits), Z_OK); }
    ~peer_t() { inflateEnd(&stream); }
    std::string read(std::string_view packed, size_t room) {
        std::string in(packed), out(room + 64, 0);
        in.append("\x00\x00\xff\xff", 4);
        stream.next_in = (Bytef *) in.data();
        stream.avail_in = (uInt) in.size();
        stream.next_out = (Bytef *) out.data();
        stream.avail_out = (uInt) out.size();
        const int result = inflate(&stream, Z_SYNC_FLUSH);
        CHECK(result == Z_OK || result == Z_BUF_ERROR);
        CHECK_EQ(stream.avail_in, 0);
        out.resize(out.size() - stream.avail_out);
        return out;
    }
};

static std::string pack(const std::string &text, int flush = Z_SYNC_FLUSH) {
    z_stream stream{};
    CHECK_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(deflateBound(&stream, text.size()) + 64, 0);
    stream.next_in = (Bytef *) text.data();
    stream.avail_in = (uInt) text.size();
    stream.next_out = (Bytef *) out.data();
    stream.avail_out = (uInt) out.size();
    deflate(&stream, flush);
    out.resize(out.size() - stream.avail_out - (flush == Z_SYNC_FLUSH ? 4 : 0));
    deflateEnd(&stream);
    return out;
}

// An input of exactly that many bytes on the heap: a byte read or written behind it is a finding of AddressSanitizer.
static Inflated inflate_exact(Inflater &inflater, const std::string &packed, size_t limit, bool keep, Scratch &scratch,
                              std::string *out) {
    std::unique_ptr<char[]> exact(new char[packed.size()]);
    std::copy(packed.begin(), packed.end(), exact.get());
    std::string_view view;
    const Inflated result = inflater.run({exact.get(), packed.size()}, limit, keep, scratch, &view);
    CHECK(std::equal(packed.begin(), packed.end(), exact.get()));
    *out = view;
    return result;
}

TEST(alone_fits_every_window) {
    Codecs codecs;
    printf("%s\n", codec_name());
    for (int bits = 8; bits <= 15; bits++) {
        for (size_t size : {50, 250, 256, 300, 600, 1786, 1787, 5000, 40000, 300000}) {
            for (size_t period : {20, 249, 250, 251, 256, 257, 511, 1025, 4096, 32767, 32769}) {
                const std::string text = repeated(noise(period, (unsigned) size), size / period + 2);
                const auto packed = codecs.deflate(text, (unsigned) bits);
                if (!packed) continue;
                CHECK(packed->size() < text.size());
                CHECK(peer_t(bits).read(*packed, text.size()) == text);
            }
            const std::string text = text_of(size);
            const auto packed = codecs.deflate(text, (unsigned) bits);
            CHECK(packed);
            CHECK(peer_t(bits).read(*packed, size) == text);
        }
    }
}

TEST(context_fits_every_window) {
    for (int bits = 8; bits <= 15; bits++) {
        Scratch scratch;
        Deflater deflater(Codecs::real_window((unsigned) bits), (unsigned) std::max(1, bits - 7), 6);
        peer_t peer(bits);
        size_t first = 0;
        for (int round = 0; round < 20; round++) {
            const std::string text = round % 3 == 2 ? noise(3000, (unsigned) round) : text_of(150);
            const auto packed = deflater.run_in_context(text, scratch);
            CHECK(packed);
            CHECK(peer.read(*packed, text.size()) == text);
            if (round == 0) first = packed->size();
            if (round == 1) CHECK(packed->size() < first / 2);
        }
    }
}

TEST(noise_is_not_compressed_alone) {
    Codecs codecs;
    for (size_t size : {1, 2, 5, 100, 2000, 100000}) CHECK(!codecs.deflate(noise(size, 1), 15));
    CHECK(codecs.deflate(text_of(1000), 15));  // and leaves nothing behind
    CHECK(peer_t(15).read(*codecs.deflate(text_of(1000), 15), 1000) == text_of(1000));
}

TEST(noise_in_context_is_whole) {
    Scratch scratch;
    Deflater deflater(15, 8, 6);
    peer_t peer(15);
    for (size_t size : {1, 16383, 16384, 16385, 65535, 200000}) {
        const std::string text = noise(size, 5);
        CHECK(peer.read(*deflater.run_in_context(text, scratch), size) == text);
    }
}

TEST(z4_a_codec_that_cannot_be_made) {
    // zlib refuses these; as without memory, a message is then sent plain and an inflater says so.
    Scratch scratch;
    Deflater deflater(7, 8, 6);
    CHECK(!deflater.run_alone(text_of(1000), scratch));
    CHECK(!deflater.run_in_context(text_of(1000), scratch));
    Inflater inflater(16);
    std::string out;
    CHECK(inflate_exact(inflater, pack("Hello"), 100, false, scratch, &out) == Inflated::kTooBig);
}

TEST(z5_the_limit_is_exact) {
    for (size_t size : {1, 2, 100, 16383, 16384, 16385, 65536, 1000000}) {
        for (bool keep : {false, true}) {
            Scratch scratch;
            Inflater inflater(15);
            const std::string text = text_of(size), packed = pack(text);
            std::string out;
            CHECK(inflate_exact(inflater, packed, size, keep, scratch, &out) == Inflated::kOk);
            CHECK(out == text);
            CHECK(inflate_exact(inflater, packed, size - 1, keep, scratch, &out) == Inflated::kTooBig);
            CHECK(inflate_exact(inflater, packed, size + 1, keep, scratch, &out) == Inflated::kOk);
            CHECK(out == text);
            CHECK(scratch.capacity() <= std::max<size_t>(16384, 2 * size + 4096));
        }
    }
}

TEST(z5_a_bomb_takes_no_more_than_the_limit) {
    Codecs codecs;
    const std::string bomb = pack(std::string(64 << 20, 0));
    std::string_view out;
    CHECK(codecs.inflate(bomb, 1 << 20, &out) == Inflated::kTooBig);
    CHECK(codecs.inflated.capacity() <= (1 << 20) + 4096);
    CHECK(codecs.inflate(pack(std::string(1 << 20, 0)), 1 << 20, &out) == Inflated::kOk);
    CHECK_EQ(out.size(), 1 << 20);
    codecs.trim();
    CHECK_EQ(codecs.inflated.capacity(), 0);
}

TEST(z6_final_blocks) {
    for (bool keep : {false, true}) {
        Scratch scratch;
        Inflater inflater(15);
        std::string out;
        const std::string first = text_of(3000), second = noise(500, 3);
        const std::string both = pack(first, Z_FINISH) + pack(second, Z_FINISH);
        for (int round = 0; round < 3; round++) {
            for (const std::string &end : {std::string(), std::string(1, 0)}) {
                CHECK(inflate_exact(inflater, both + end, 1 << 20, keep, scratch, &out) == Inflated::kOk);
                CHECK(out == first + second);
            }
            CHECK(inflate_exact(inflater, pack(first, Z_FINISH) + pack(second), 1 << 20, keep, scratch, &out) ==
                  Inflated::kOk);
            CHECK(out == first + second);
            CHECK(inflate_exact(inflater, both, first.size() + 499, keep, scratch, &out) == Inflated::kTooBig);
        }
    }
}

TEST(every_cut_and_every_flipped_bit) {
    const std::string text = text_of(400), packed = pack(text);
    Scratch scratch;
    Inflater inflater(15);
    std::string out;
    for (size_t length = 1; length < packed.size(); length++) {
        // A cut message is refused, never delivered in part.
        CHECK(inflate_exact(inflater, packed.substr(0, length), 1 << 16, false, scratch, &out) == Inflated::kCorrupt);
    }
    for (size_t bit = 0; bit < packed.size() * 8; bit++) {
        std::string flipped = packed;
        flipped[bit / 8] = (char) (flipped[bit / 8] ^ (1 << bit % 8));
        inflate_exact(inflater, flipped, 1 << 16, bit & 1, scratch, &out);
        CHECK(out.size() <= 1 << 16);
    }
    for (unsigned seed = 0; seed < 3000; seed++) {
        inflate_exact(inflater, noise(1 + seed % 90, seed), 1 << 12, seed & 1, scratch, &out);
        CHECK(out.size() <= 1 << 12);
    }
    CHECK(inflate_exact(inflater, packed, 400, false, scratch, &out) == Inflated::kOk);
    CHECK(out == text);
}

TEST(empty_messages) {
    Scratch scratch;
    Inflater inflater(15);
    std::string out = "x";
    CHECK(inflate_exact(inflater, std::string(), 0, true, scratch, &out) == Inflated::kOk);
    CHECK(out.empty());
    CHECK(inflate_exact(inflater, std::string(1, 0), 0, true, scratch, &out) == Inflated::kOk);
    CHECK(out.empty());
}

// As clients that keep their decompressor read: whatever a message is compressed with, the next one can be read, too.
TEST(alone_for_a_peer_that_keeps_its_context) {
    Codecs codecs;
    peer_t peer(15);
    for (unsigned round = 0; round < 400; round++) {
        const size_t size = round < 300 ? 1 + round * 7 : round * 499;
        // Text with noise in it: at the beginning, over whole pieces of the codec, at the end.
        std::string text = text_of(size);
        const size_t from = round * 131 % size, length = std::min(size - from, (size_t) (round % 5) * 16000);
        text.replace(from, length, noise(length, round));
        if (const auto packed = codecs.deflate(text, 15)) CHECK(peer.read(*packed, size) == text);
    }
}

// Streams that end with a final block, with every length of "end of block" that zlib comes up with.
TEST(opened_streams) {
    size_t opened = 0, longer = 0;
    peer_t peer(15);
    for (unsigned seed = 0; seed < 4000; seed++) {
        std::string text = seed & 1 ? text_of(30 + seed) : noise(60 + seed, seed);
        // Fewer and fewer letters make longer and longer codes.
        for (char &c : text) c = (char) (c >> seed % 6 & (seed & 2 ? 15 : 127));
        const std::string stream = pack(text, Z_FINISH);
        std::string bytes = stream + "x";
        const auto length = open_stream(bytes.data(), stream.size());
        if (!length) {
            CHECK(bytes == stream + "x");
            continue;
        }
        opened++;
        longer += *length > stream.size();
        CHECK_EQ(bytes[0] & 1, 0);
        CHECK(peer.read(std::string_view(bytes).substr(0, *length), text.size()) == text);
    }
    CHECK(opened > 3000 && longer > 500 && longer < opened - 500);
}

TEST(streams_that_cannot_be_opened) {
    std::string digits = noise(200000, 1);
    for (char &c : digits) c = (char) ('0' + (c & 7));
    const std::string fixed = pack("Hello", Z_FINISH), several = pack(digits, Z_FINISH);
    for (const std::string &stream : {std::string(), fixed, several, std::string("\x01\x00\x00\xff\xff", 5),
                                      std::string(1, 5), std::string(3, 0)}) {
        std::string bytes = stream + "x";
        CHECK(!open_stream(bytes.data(), stream.size()));
        CHECK(bytes == stream + "x");
    }
    for (unsigned seed = 0; seed < 20000; seed++) {  // it never reads or writes behind them
        const std::string stream = noise(1 + seed % 60, seed);
        std::unique_ptr<char[]> exact(new char[stream.size() + 1]);
        std::copy(stream.begin(), stream.end(), exact.get());
        exact[0] = (char) ((exact[0] & ~7) | 5);
        open_stream(exact.get(), stream.size());
    }
}
