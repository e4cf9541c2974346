#include "uws/deflate/fast.h"

#include <zlib.h>

#ifdef UWSERVE_LIBDEFLATE

#include <libdeflate.h>

#include <cstring>
#include <optional>

#include "uws/deflate/block.h"
#include "uws/deflate/codec.h"

namespace uwserve {

namespace {

// The codes of a dynamic block cost a smaller message more than they save, and zlib is as fast.
constexpr size_t kLeast = 192;
// At this level libdeflate ends a block after 8192 matches at the earliest, each of at least four bytes. So a piece of
// this size is one block.
constexpr size_t kPiece = 32 * 1024;
constexpr int kLevel = 1;
constexpr size_t kStoredHeader = 5;
constexpr size_t kBehindPiece = 1 + kDeflateTail.size();  // open_stream() may add one byte, and a tail follows
constexpr size_t kSlack = 64;  // more than kStoredHeader and kBehindPiece together

// Writes a piece that does not get smaller as a stored block, followed by the first byte of the next block.
size_t store(char *place, std::string_view piece) {
    const size_t size = piece.size();
    const char header[kStoredHeader] = {0, static_cast<char>(size), static_cast<char>(size >> 8),
                                        static_cast<char>(~size), static_cast<char>(~size >> 8)};
    memcpy(place, header, kStoredHeader);
    memcpy(place + kStoredHeader, piece.data(), size);
    place[kStoredHeader + size] = 0;
    return kStoredHeader + size + 1;
}

}  // namespace

const char *codec_name() { return "zlib " ZLIB_VERSION ", libdeflate " LIBDEFLATE_VERSION_STRING; }

void FastDeflater::Free::operator()(libdeflate_compressor *compressor) const { libdeflate_free_compressor(compressor); }

FastDeflater::Result FastDeflater::run(std::string_view message, Scratch &out, std::string_view *packed) {
    if (message.size() < kLeast) return Result::kUnable;
    if (!compressor_) compressor_.reset(libdeflate_alloc_compressor(kLevel));
    const size_t room = message.size() + kSlack;
    if (!compressor_ || !out.reserve(room)) return Result::kUnable;
    size_t length = 0;
    for (std::string_view rest = message;;) {
        const std::string_view piece = rest.substr(0, kPiece);
        rest.remove_prefix(piece.size());
        if (length + piece.size() + kStoredHeader + kBehindPiece > room) return Result::kNotSmaller;
        char *const place = out.data() + length;
        const size_t made = libdeflate_deflate_compress(compressor_.get(), piece.data(), piece.size(), place,
                                                        room - length - kBehindPiece);
        if (made && made < piece.size()) {
            std::optional<size_t> opened = open_stream(place, made);
            if (!opened) return Result::kUnable;
            length += *opened;
        } else {
            length += store(place, piece);
        }
        if (rest.empty()) break;
        memcpy(out.data() + length, kDeflateTail.data(), kDeflateTail.size());
        length += kDeflateTail.size();
    }
    if (length >= message.size()) return Result::kNotSmaller;
    *packed = {out.data(), length};
    return Result::kDone;
}

}  // namespace uwserve

#else

namespace uwserve {

const char *codec_name() { return "zlib " ZLIB_VERSION; }
void FastDeflater::Free::operator()(libdeflate_compressor *) const {}
FastDeflater::Result FastDeflater::run(std::string_view, Scratch &, std::string_view *) { return Result::kUnable; }

}  // namespace uwserve

#endif
