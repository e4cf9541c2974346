// Negotiation of permessage-deflate (RFC 7692 section 7.1): a strict reader of Sec-WebSocket-Extensions (RFC 6455
// section 9.1) and our answer to it. uWebSockets takes unknown parameters and bad windows, and looks at the first offer
// only (defect Z2). Pure functions over a request's head; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace uwserve {

struct HttpHead;

// What a server is willing to do in one direction.
struct DeflateSide {
    enum class Kind : uint8_t { kDisabled, kShared, kDedicated };
    Kind kind = Kind::kDisabled;
    uint8_t window = 15;  // of a dedicated codec, in bits
    uint8_t memory = 8;  // zlib's memory level, of a dedicated compressor
};

struct DeflateOptions {
    DeflateSide compress, decompress;
    bool enabled() const {
        return compress.kind != DeflateSide::Kind::kDisabled || decompress.kind != DeflateSide::Kind::kDisabled;
    }
};

// "disable", "shared", "dedicated", or "3KB" ... "256KB": what a dedicated compressor may take in all, or the largest
// window of a decompressor. Nothing for any other name.
std::optional<DeflateSide> compress_side(std::string_view name);
std::optional<DeflateSide> decompress_side(std::string_view name);

// What was agreed with one client.
struct Negotiated {
    bool active = false;  // permessage-deflate is in use
    uint8_t send_window = 0;  // 8..15; 0: the server sends everything plain
    uint8_t send_memory = 0;  // memory level of the connection's own compressor; 0: no context takeover
    uint8_t receive_window = 0;  // 8..15 of the connection's own decompressor; 0: no context takeover
};

struct ExtensionAnswer {
    std::string field;  // of Sec-WebSocket-Extensions; empty: none is sent
    Negotiated agreed;
};

// The first acceptable offer of the request decides.
ExtensionAnswer negotiate_extensions(const HttpHead &head, const DeflateOptions &options);

}  // namespace uwserve
