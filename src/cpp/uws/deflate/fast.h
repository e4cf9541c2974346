// Messages compressed by libdeflate, when the build has found it: two to three times as fast as zlib for what it is
// asked here, and no larger. It knows no context, no window smaller than 32 KiB and no end but a final block; so large
// messages are compressed in pieces, each is opened (deflate/block.h), and what can't be done this way is left to zlib.
//
// Inflating stays with zlib: libdeflate takes streams that RFC 1951 forbids (length codes 286 and 287, distance codes
// 30 and 31, repeats beyond the end of a table), and no result shows that it did. Loop thread only.
#pragma once

#include <cstddef>
#include <string_view>

struct libdeflate_compressor;

namespace uwserve {

class Scratch;

// "zlib 1.2.13" or "zlib 1.2.13, libdeflate 1.14": what this build compresses with.
const char *codec_name();

class FastDeflater {
  public:
    enum class Result {
        kDone,
        kNotSmaller,
        kUnable,  // not built in, no memory, too small to gain anything, or its end cannot be known
    };

    FastDeflater() = default;
    ~FastDeflater();
    FastDeflater(const FastDeflater &) = delete;
    FastDeflater &operator=(const FastDeflater &) = delete;

    // `message` by itself, without the four bytes that a message leaves out, for a receiver with a window of 32 KiB or
    // of the message's size. Its memory, about 200 KiB, is taken at the first one.
    Result run(std::string_view message, Scratch &out, std::string_view *packed);

  private:
    [[maybe_unused]] libdeflate_compressor *compressor_ = nullptr;  // unused without libdeflate
};

}  // namespace uwserve
