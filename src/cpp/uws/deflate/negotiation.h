// Negotiation of permessage-deflate (RFC 7692 section 7.1): a strict reader of Sec-WebSocket-Extensions (RFC 6455
// section 9.1), and the server's answer. uWebSockets accepts unknown parameters and bad windows, and reads the first
// offer only (defect Z2). Pure functions over a request's head; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace uwserve {

struct HttpHead;

// The server's setting for one direction.
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

// The setting named "disable", "shared", "dedicated", or "3KB" ... "256KB": the memory of a dedicated compressor, or
// the largest window of a decompressor. Nothing for any other name.
std::optional<DeflateSide> compress_side(std::string_view name);
std::optional<DeflateSide> decompress_side(std::string_view name);

// The agreement with one client.
struct Negotiated {
    bool active = false;  // permessage-deflate is in use
    uint8_t send_window = 0;  // 8..15; 0: the server does not compress
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
