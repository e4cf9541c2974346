// Compresses messages with libdeflate, if the build has found it: two to three times as fast as zlib for single
// messages, and no larger. libdeflate has no context and no window smaller than 32 KiB, and always ends with a final
// block. So a large message is compressed in pieces, the final block of each is made an ordinary one (deflate/block.h),
// and zlib does the rest.
//
// zlib inflates: libdeflate accepts streams that RFC 1951 forbids (length codes 286 and 287, distance codes 30 and 31,
// repeats beyond the end of a table) and does not report it. Loop thread only.
#pragma once

#include <memory>
#include <string_view>

struct libdeflate_compressor;

namespace uwserve {

class Scratch;

// The libraries that this build compresses with: "zlib 1.2.13" or "zlib 1.2.13, libdeflate 1.14".
const char *codec_name();

class FastDeflater {
  public:
    enum class Result {
        kDone,
        kNotSmaller,
        kUnable,  // not built in, no memory, a message too small to gain from it, or a block whose end is unknown
    };

    // Compresses `message` by itself, without kDeflateTail, for a receiver with a window of 32 KiB or of the message's
    // size. Allocates about 200 KiB at the first message.
    Result run(std::string_view message, Scratch &out, std::string_view *packed);

  private:
    struct Free {
        void operator()(libdeflate_compressor *compressor) const;
    };
    std::unique_ptr<libdeflate_compressor, Free> compressor_;  // unused without libdeflate
};

}  // namespace uwserve
