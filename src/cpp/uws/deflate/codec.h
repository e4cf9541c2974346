// DEFLATE for permessage-deflate (RFC 7692 section 7.2): one message in, one message out. zlib does the work; messages
// without context are first tried with the faster libdeflate (deflate/fast.h).
//
// A Deflater or Inflater belongs to one connection (context takeover) or to a loop, which resets it after each message.
// zlib allocates at the first message, so a connection that compresses nothing costs nothing. Results are views of a
// Scratch, and valid until its next use. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "uws/deflate/fast.h"

struct z_stream_s;

namespace uwserve {

// The end of each Z_SYNC_FLUSH, which a message leaves out (RFC 7692 7.2.1).
constexpr std::string_view kDeflateTail("\x00\x00\xff\xff", 4);

// A buffer that grows, and shrinks after a large message: the output of all codecs of a loop.
class Scratch {
  public:
    Scratch() = default;
    ~Scratch() { release(); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;

    char *data() const { return data_; }
    size_t capacity() const { return capacity_; }
    // Makes the capacity at least `size` and keeps the contents. False: no memory, and nothing has changed.
    bool reserve(size_t size);
    // Frees a buffer that a large message has made large.
    void trim();

  private:
    void release();

    char *data_ = nullptr;
    size_t capacity_ = 0;
};

class Deflater {
  public:
    // A window of 2^window_bits bytes (9..15) and zlib's memory level (1..9): 2^(window_bits+2) + 2^(memory_level+9)
    // bytes and about 6 KiB.
    Deflater(unsigned window_bits, unsigned memory_level, int level);

    // Compresses `message` (not empty) by itself. Nothing: the result would not be smaller, or there is no memory.
    std::optional<std::string_view> run_alone(std::string_view message, Scratch &out);
    // Compresses `message` (not empty) with the context of those before it. Nothing: there is no memory. The context is
    // empty then, which any peer can follow.
    std::optional<std::string_view> run_in_context(std::string_view message, Scratch &out);

  private:
    struct End {
        void operator()(z_stream_s *stream) const;
    };
    bool ready();

    std::unique_ptr<z_stream_s, End> stream_;
    uint8_t window_bits_, memory_level_;
    int8_t level_;
};

enum class Inflated {
    kOk,
    kTooBig,  // more than the limit, or no memory for it
    kCorrupt,  // not DEFLATE, or not the end of a message
};

class Inflater {
  public:
    // A window of 2^window_bits bytes (8..15), to which the peer may refer back; takes about 10 KiB more than that.
    explicit Inflater(unsigned window_bits);

    // Never makes more than limit + 1 bytes, and never writes behind `compressed`. A block with BFINAL set does not end
    // the message (RFC 7692 7.2.3.4).
    Inflated run(std::string_view compressed, size_t limit, bool keep_context, Scratch &scratch, std::string_view *out);

  private:
    struct End {
        void operator()(z_stream_s *stream) const;
    };
    bool ready();
    Inflated feed(std::string_view piece, size_t limit, Scratch &scratch, size_t *total, bool *ended);

    std::unique_ptr<z_stream_s, End> stream_;
    uint8_t window_bits_;
};

// The codecs that the connections of a loop share.
class Codecs {
  public:
    // The window that a message of `size` bytes is compressed with for a receiver with `window`. Equal windows give
    // equal bytes, so a broadcast is compressed once for each of them.
    static unsigned window_for(size_t size, unsigned window);
    // zlib has no raw compressor with a window of 8 bits. With 9 bits it never looks back further than 250 bytes, which
    // a window of 8 bits allows.
    static unsigned real_window(unsigned window) { return window < 9 ? 9 : window; }
    std::optional<std::string_view> deflate(std::string_view message, unsigned window);
    std::optional<std::string_view> deflate_in_context(Deflater &own, std::string_view message);
    Inflated inflate(std::string_view compressed, size_t limit, std::string_view *out) {
        return inflater_.run(compressed, limit, false, inflated, out);
    }
    // Called at the end of an iteration, when no view of a result is alive.
    void trim();

    Scratch deflated, inflated;
    uint64_t compressions = 0;  // messages that were given to a compressor; for tests

  private:
    static constexpr unsigned kLargestWindow = 15;
    // Whether a message fits into the window. Then the compressor's own window does not matter: no reference goes back
    // further than to the beginning of the message.
    static bool is_whole(size_t size, unsigned window) { return size <= size_t{1} << window; }

    FastDeflater fast_;
    std::unique_ptr<Deflater> deflaters_[16];  // by window
    Inflater inflater_{kLargestWindow};
};

}  // namespace uwserve
