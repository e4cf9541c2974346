// Replaces PerMessageDeflate.h of uWebSockets, under its include guard: defects Z1-Z7.
//
// uWebSockets neither negotiates nor compresses. We answer the extension ourselves (deflate/negotiation.h), and a message
// is compressed before uWebSockets frames it (deflate/per_message.h), so deflate() below returns its argument. uWebSockets
// only sets RSV1 when send() says that a message is compressed, and owns the two streams of a connection. Loop thread
// only.
#pragma once

#ifdef UWS_PERMESSAGEDEFLATE_H
#error "uwebsockets.h must be included before any header of uWebSockets"
#endif
#define UWS_PERMESSAGEDEFLATE_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "uws/deflate/codec.h"
#include "uws/deflate/negotiation.h"

namespace uWS {

// Only declared: no context of ours uses the compression of uWebSockets.
enum CompressOptions : uint16_t {
    _COMPRESSOR_MASK = 0x00FF,
    _DECOMPRESSOR_MASK = 0x0F00,
    DISABLED = 0,
    SHARED_COMPRESSOR = 1,
    SHARED_DECOMPRESSOR = 1 << 8,
    DEDICATED_COMPRESSOR_3KB = 0x91,
    DEDICATED_COMPRESSOR = 0xF8,
    DEDICATED_DECOMPRESSOR = 0xF00,
};

struct ZlibContext {};

// The sending half of a connection that negotiated permessage-deflate.
struct DeflationStream {
    explicit DeflationStream(CompressOptions) {}
    DeflationStream(uwserve::Codecs &with, const uwserve::Negotiated &agreed) : codecs(&with), settings(agreed) {}

    std::string_view deflate(ZlibContext *, std::string_view compressed, bool) { return compressed; }

    uwserve::Codecs *codecs = nullptr;
    uwserve::Negotiated settings;
    std::unique_ptr<uwserve::Deflater> own;  // with context takeover, from the first compressed message on
};

// The receiving half.
struct InflationStream {
    explicit InflationStream(CompressOptions) {}
    InflationStream(uwserve::Codecs &with, const uwserve::Negotiated &agreed)
        : codecs(&with), window(agreed.receive_window) {}

    // uWebSockets needs it to compile.
    std::optional<std::string_view> inflate(ZlibContext *, std::string_view compressed, size_t limit, bool) {
        std::string_view out;
        if (run(compressed, limit, &out) != uwserve::Inflated::kOk) return std::nullopt;
        return out;
    }
    uwserve::Inflated run(std::string_view compressed, size_t limit, std::string_view *out) {
        if (!window) return codecs->inflate(compressed, limit, out);
        if (!own) own.reset(new (std::nothrow) uwserve::Inflater(window));
        return own ? own->run(compressed, limit, true, codecs->inflated, out) : uwserve::Inflated::kTooBig;
    }

    uwserve::Codecs *codecs = nullptr;
    std::unique_ptr<uwserve::Inflater> own;  // with context takeover, from the first compressed message on
    uint8_t window = 0;
};

}  // namespace uWS
