// DEFLATE for permessage-deflate (RFC 7692 section 7.2): one message in, one message out, by zlib, or without context by
// what is faster (deflate/fast.h).
//
// A Deflater or Inflater belongs to one connection (context takeover) or to a loop, which resets it after each message.
// zlib's memory is taken at the first message, never before: a connection that compresses nothing costs nothing.
// Results are views of a Scratch and valid until its next use.
// Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "uws/deflate/fast.h"

struct z_stream_s;

namespace uwserve {

// Bytes that grow and are given back: the output of all codecs of a loop.
class Scratch {
  public:
    Scratch() = default;
    ~Scratch() { release(); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;

    char *data() const { return data_; }
    size_t capacity() const { return capacity_; }
    // At least `size` bytes, contents kept. False: there is no memory, nothing has changed.
    bool reserve(size_t size);
    // Gives back what a large message has needed.
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
    ~Deflater();
    Deflater(const Deflater &) = delete;
    Deflater &operator=(const Deflater &) = delete;

    // `message` (not empty) by itself; nothing when that would not be smaller, or without memory.
    std::optional<std::string_view> run_alone(std::string_view message, Scratch &out);
    // `message` (not empty) with the context of those before it. Nothing without memory: the context is empty then, which
    // any peer can follow.
    std::optional<std::string_view> run_in_context(std::string_view message, Scratch &out);

  private:
    bool ready();

    std::unique_ptr<z_stream_s> stream_;
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
    explicit Inflater(unsigned window_bits);  // 8..15: what the peer may refer back to; about 10 KiB and the window
    ~Inflater();
    Inflater(const Inflater &) = delete;
    Inflater &operator=(const Inflater &) = delete;

    // Never makes more than limit + 1 bytes, and never writes behind `compressed`. Blocks with BFINAL set are part of the
    // message, and so is what follows them (RFC 7692 7.2.3.4).
    Inflated run(std::string_view compressed, size_t limit, bool keep_context, Scratch &scratch, std::string_view *out);

  private:
    bool ready();
    Inflated feed(std::string_view piece, size_t limit, Scratch &scratch, size_t *total, bool *ended);

    std::unique_ptr<z_stream_s> stream_;
    uint8_t window_bits_;
};

// What the connections of a loop share.
class Codecs {
  public:
    // The window that a message of that size is compressed with when the receiver's is `window`. Equal windows give equal
    // bytes: a broadcast is compressed once for each.
    static unsigned window_for(size_t size, unsigned window);
    // zlib has no raw compressor with a window of 8 bits; with 9 it never looks back further than 250 bytes, which 8 allow.
    static unsigned real_window(unsigned window) { return window < 9 ? 9 : window; }
    std::optional<std::string_view> deflate(std::string_view message, unsigned window);
    std::optional<std::string_view> deflate_in_context(Deflater &own, std::string_view message);
    Inflated inflate(std::string_view compressed, size_t limit, std::string_view *out) {
        return inflater_.run(compressed, limit, false, inflated, out);
    }
    // At the end of an iteration: no view of a result is alive.
    void trim();

    Scratch deflated, inflated;
    uint64_t compressions = 0;  // messages that went through a compressor; for tests and figures

  private:
    static constexpr unsigned kLargestWindow = 15;
    // It fits into the window: whatever it was compressed with, it refers no further back than to its own beginning.
    static bool is_whole(size_t size, unsigned window) { return size <= size_t{1} << window; }

    FastDeflater fast_;
    std::unique_ptr<Deflater> deflaters_[16];  // by window
    Inflater inflater_{kLargestWindow};
};

constexpr int kDedicatedLevel = 6;

}  // namespace uwserve
