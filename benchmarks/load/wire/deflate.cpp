#include "wire/deflate.h"

#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <stdexcept>

namespace load {

namespace {

constexpr size_t kPoolBytes = 8u << 20, kMinPool = 8, kMaxPool = 256;
constexpr std::string_view kTail("\0\0\xff\xff", 4);  // RFC 7692 section 7.2.1 takes it off

const char *const kNames[] = {"temperature", "humidity", "pressure", "wind", "rain", "light", "voltage", "current"};
const char *const kStates[] = {"ok", "warning", "stale", "calibrating"};

std::string deflate_message(std::string_view plain) {
    z_stream stream{};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::bad_alloc();
    std::string out(deflateBound(&stream, static_cast<uLong>(plain.size())) + 64, '\0');
    stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(plain.data()));
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = reinterpret_cast<Bytef *>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    int result = deflate(&stream, Z_SYNC_FLUSH);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    if (result != Z_OK || !out.ends_with(kTail)) throw std::runtime_error("zlib could not compress a message");
    out.resize(out.size() - kTail.size());
    return out;
}

}  // namespace

std::string make_json(size_t size, uint32_t number) {
    uint32_t random = number * 2654435761u + 1;
    auto next = [&random](uint32_t below) {
        random = random * 1664525 + 1013904223;
        return (random >> 8) % below;
    };
    std::string text = "[";
    for (uint32_t id = 1000 * number;; id++) {
        char record[200];
        int length = snprintf(record, sizeof(record),
                              "%s{\"id\":%u,\"sensor\":\"%s\",\"value\":%u.%02u,\"time\":%u,\"state\":\"%s\"}",
                              text.size() > 1 ? "," : "", id, kNames[next(8)], next(1000), next(100),
                              1700000000 + next(1 << 20), kStates[next(8) % 4]);
        if (text.size() + static_cast<size_t>(length) + 1 > size) break;
        text.append(record, static_cast<size_t>(length));
    }
    text += "]";
    // Where not one record fits, digits that tell the messages apart.
    if (text.size() == 2) text = std::to_string(100 + number);
    text.resize(size, ' ');
    return text;
}

std::string inflate_message(std::string_view compressed, size_t limit) {
    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) throw std::bad_alloc();
    std::string in(compressed), out(limit + 1, '\0');
    in += kTail;
    stream.next_in = reinterpret_cast<Bytef *>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef *>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    int result = inflate(&stream, Z_SYNC_FLUSH);
    // A message may consist of several streams, each ended by a final block (section 7.2.3.5).
    while (result == Z_STREAM_END && stream.avail_in > kTail.size() + 1) {
        inflateReset(&stream);
        result = inflate(&stream, Z_SYNC_FLUSH);
    }
    size_t size = out.size() - stream.avail_out;
    inflateEnd(&stream);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        throw std::runtime_error("a compressed echo can't be inflated");
    if (size > limit) throw std::runtime_error("a compressed echo is longer than what was sent");
    out.resize(size);
    return out;
}

CompressedPool::CompressedPool(size_t size, bool text) : opcode_(text ? kText : kBinary) {
    size_t count = std::clamp(kPoolBytes / size, kMinPool, kMaxPool);
    for (size_t i = 0; i < count; i++) {
        plain_.push_back(make_json(size, static_cast<uint32_t>(i)));
        append_frame(frame_.emplace_back(), opcode_, deflate_message(plain_.back()), true);
    }
}

double CompressedPool::ratio() const {
    size_t plain = 0, compressed = 0;
    for (const std::string &message : plain_) plain += message.size();
    for (const std::string &frame : frame_) compressed += frame.size();
    return static_cast<double>(plain) / static_cast<double>(compressed);
}

bool VerifiedReplies::matches(size_t i, std::string_view payload, bool compressed) {
    if (!compressed) {
        plain++;
        return payload == pool_.plain(i);
    }
    if (!known_[i].empty() && payload == known_[i]) return true;
    inflated++;
    if (inflate_message(payload, pool_.plain(i).size()) != pool_.plain(i)) return false;
    known_[i] = payload;
    return true;
}

}  // namespace load
