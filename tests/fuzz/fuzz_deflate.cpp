// The codec of permessage-deflate. Input: settings (window, context takeover, limit), then messages, each with two bytes of
// length: first as what a hostile client says is compressed, then as what a server compresses.
//
// Promises: never more than the limit; what zlib itself makes of a stream without a final block is what comes out; a
// message compressed here comes out the same, with context over any number of them; a message compressed by itself can be
// read by a client that never resets its decompressor, and leaves it able to read the next.
#include "fuzz.h"

#include "uws/deflate/block.h"
#include "uws/deflate/codec.h"

#include <string>
#include <vector>
#include <zlib.h>

using namespace uwserve;

namespace {

struct reference_t {
    bool corrupt = false, final_block = false;
    std::string out;
};

// Section 7.2.2 with nothing but zlib: append the tail and inflate, at most `most` bytes.
reference_t by_zlib(std::string_view compressed, size_t most) {
    reference_t result;
    z_stream stream{};
    CHECK_EQ(inflateInit2(&stream, -15), Z_OK);
    std::string in(compressed);
    in.append("\0\0\xff\xff", 4);
    stream.next_in = (Bytef *) in.data();
    stream.avail_in = (uInt) in.size();
    std::string buffer(16384, 0);
    int status = Z_OK;
    while (status == Z_OK && result.out.size() <= most) {
        stream.next_out = (Bytef *) buffer.data();
        stream.avail_out = (uInt) buffer.size();
        status = inflate(&stream, Z_SYNC_FLUSH);
        result.out.append(buffer.data(), buffer.size() - stream.avail_out);
        if (!stream.avail_in && stream.avail_out) break;
    }
    result.corrupt = status == Z_DATA_ERROR || status == Z_NEED_DICT;
    result.final_block = status == Z_STREAM_END;
    inflateEnd(&stream);
    return result;
}

void hostile(const std::vector<std::string> &messages, unsigned window, bool keep_context, size_t limit) {
    Inflater inflater(window);
    Scratch scratch;
    bool first = true;
    for (const std::string &message : messages) {
        std::string_view out;
        const Inflated result = inflater.run(message, limit, keep_context, scratch, &out);
        if (result == Inflated::kOk) CHECK(out.size() <= limit);
        if (window == 15 && (first || !keep_context)) {
            const reference_t expected = by_zlib(message, limit);
            if (!expected.final_block) {
                if (result == Inflated::kOk) CHECK(!expected.corrupt && out == expected.out);
                if (result == Inflated::kTooBig) CHECK(expected.out.size() > limit);
                if (expected.corrupt && expected.out.size() <= limit) CHECK(result == Inflated::kCorrupt);
            }
        }
        first = false;
        scratch.trim();
        if (result != Inflated::kOk) return;  // the connection has failed
    }
}

void round_trip(const std::vector<std::string> &messages, unsigned window, unsigned memory, bool keep_context) {
    Deflater deflater(Codecs::real_window(window), memory, 6);
    Inflater inflater(window);
    Scratch deflated, inflated;
    for (const std::string &message : messages) {
        if (message.empty()) continue;
        const auto packed =
            keep_context ? deflater.run_in_context(message, deflated) : deflater.run_alone(message, deflated);
        if (!packed) {
            CHECK(!keep_context);
            continue;
        }
        if (!keep_context) CHECK(packed->size() < message.size());
        const std::string sent(*packed);
        std::string_view out;
        CHECK(inflater.run(sent, message.size(), keep_context, inflated, &out) == Inflated::kOk);
        CHECK(out == message);
        CHECK(keep_context || inflater.run(sent, message.size() - 1, false, inflated, &out) == Inflated::kTooBig);
    }
}

// A client that keeps one decompressor, whatever was agreed.
class keeping_client_t {
  public:
    explicit keeping_client_t(unsigned window) { CHECK_EQ(inflateInit2(&stream_, -(int) window), Z_OK); }
    ~keeping_client_t() { inflateEnd(&stream_); }
    void reads(std::string_view packed, const std::string &message) {
        std::string in(packed), out(message.size() + 64, 0);
        in.append("\0\0\xff\xff", 4);
        stream_.next_in = (Bytef *) in.data();
        stream_.avail_in = (uInt) in.size();
        stream_.next_out = (Bytef *) out.data();
        stream_.avail_out = (uInt) out.size();
        CHECK_EQ(inflate(&stream_, Z_SYNC_FLUSH), Z_OK);
        CHECK_EQ(stream_.avail_in, 0);
        out.resize(out.size() - stream_.avail_out);
        CHECK(out == message);
    }

  private:
    z_stream stream_{};
};

// Whatever is said to be a stream: nothing behind it is touched, but for one byte.
void open(const std::string &stream) {
    std::string bytes = stream + "xy";
    const auto length = open_stream(bytes.data(), stream.size());
    if (!length)
        CHECK(bytes == stream + "xy");
    else
        CHECK(*length - stream.size() <= 1 &&
              bytes.substr(*length) == std::string("xy").substr(*length - stream.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    const unsigned settings = input.byte();
    const size_t limit = input.word() * 16 + 1;
    const unsigned window = settings & 1 ? 15 : 8 + (settings >> 1 & 7);
    const bool keep_context = settings & 16;
    std::vector<std::string> messages;
    while (!input.empty() && messages.size() < 20) {
        const size_t length = input.word();
        messages.emplace_back(input.take(length));
    }
    hostile(messages, window, keep_context, limit);
    round_trip(messages, window, 1 + (settings >> 5 & 7), keep_context);
    Codecs codecs;
    keeping_client_t client(window);
    for (const std::string &message : messages) {
        open(message);
        std::string_view out;
        if (codecs.inflate(message, limit, &out) == Inflated::kOk) CHECK(out.size() <= limit);
        if (message.empty()) continue;
        if (const auto packed = codecs.deflate(message, window)) {
            const std::string sent(*packed);
            CHECK(sent.size() < message.size());
            CHECK(codecs.inflate(sent, message.size(), &out) == Inflated::kOk && out == message);
            client.reads(sent, message);
        }
        codecs.trim();
    }
    return 0;
}
