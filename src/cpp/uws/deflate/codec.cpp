#include "uws/deflate/codec.h"

#include <sys/mman.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace uwserve {

namespace {

constexpr size_t kFirstBytes = 16 * 1024;
constexpr size_t kKeptBytes = 64 * 1024;
constexpr size_t kPage = 4096;
// A compressor for small messages is cheap to reset, because it has little memory to clear.
constexpr size_t kSmallMessage = 1786;  // a window of 2 KiB less the part that zlib keeps free
constexpr unsigned kSmallWindow = 11, kSmallMemory = 5, kLargeMemory = 8;
// Measured on varied JSON. 1 KiB: level 3 takes 12 us for 337 bytes, 6 takes 14.5 for 318. 256 KiB: level 4 takes 2.4
// ms for 60 KiB, 6 takes 3.8 for 57. No other connection is served meanwhile.
constexpr int kSmallLevel = 3, kLargeLevel = 4;

void set_input(z_stream &stream, std::string_view in) {
    stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
}

void set_output(z_stream &stream, Scratch &out, size_t from, size_t end) {
    stream.next_out = reinterpret_cast<Bytef *>(out.data() + from);
    stream.avail_out = static_cast<uInt>(end - from);
}

}  // namespace

// --- Scratch ---

// A large buffer is mapped by itself, because malloc() may keep up to 64 MiB of freed memory.
void Scratch::release() {
    if (capacity_ > kKeptBytes) {
        munmap(data_, capacity_);
    } else {
        std::free(data_);
    }
    data_ = nullptr;
    capacity_ = 0;
}

bool Scratch::reserve(size_t size) {
    if (size <= capacity_) return true;
    void *grown = nullptr;
    if (size <= kKeptBytes) {
        grown = std::realloc(data_, size);
        if (!grown) return false;
    } else {
        size = (size + kPage - 1) / kPage * kPage;
        bool is_mapped = capacity_ > kKeptBytes;
        grown = is_mapped ? mremap(data_, capacity_, size, MREMAP_MAYMOVE)
                          : mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (grown == MAP_FAILED) return false;
        if (!is_mapped) {
            if (data_) memcpy(grown, data_, capacity_);
            std::free(data_);
        }
    }
    data_ = static_cast<char *>(grown);
    capacity_ = size;
    return true;
}

void Scratch::trim() {
    if (capacity_ > kKeptBytes) release();
}

// --- Deflater ---

Deflater::Deflater(unsigned window_bits, unsigned memory_level, int level)
    : window_bits_(static_cast<uint8_t>(window_bits)),
      memory_level_(static_cast<uint8_t>(memory_level)),
      level_(static_cast<int8_t>(level)) {}

void Deflater::End::operator()(z_stream *stream) const {
    deflateEnd(stream);
    delete stream;
}

bool Deflater::ready() {
    if (stream_) return true;
    stream_.reset(new (std::nothrow) z_stream());
    if (stream_ &&
        deflateInit2(stream_.get(), level_, Z_DEFLATED, -window_bits_, memory_level_, Z_DEFAULT_STRATEGY) != Z_OK) {
        stream_ = nullptr;
    }
    return stream_ != nullptr;
}

std::optional<std::string_view> Deflater::run_alone(std::string_view message, Scratch &out) {
    // The room ends where the result would not be smaller, so zlib stops early then.
    size_t room = message.size() - 1 + kDeflateTail.size();
    if (!ready() || !out.reserve(room)) return std::nullopt;
    set_input(*stream_, message);
    set_output(*stream_, out, 0, room);
    int result = ::deflate(stream_.get(), Z_SYNC_FLUSH);
    size_t length = room - stream_->avail_out;
    bool fits = result == Z_OK && stream_->avail_in == 0 && stream_->avail_out != 0 && length > kDeflateTail.size();
    deflateReset(stream_.get());
    if (!fits) return std::nullopt;
    return std::string_view(out.data(), length - kDeflateTail.size());
}

std::optional<std::string_view> Deflater::run_in_context(std::string_view message, Scratch &out) {
    if (!ready()) return std::nullopt;
    size_t room = deflateBound(stream_.get(), message.size()) + 16, length = 0;
    set_input(*stream_, message);
    while (out.reserve(room)) {
        set_output(*stream_, out, length, room);
        if (::deflate(stream_.get(), Z_SYNC_FLUSH) != Z_OK) break;
        length = room - stream_->avail_out;
        if (stream_->avail_out) {
            if (length <= kDeflateTail.size()) break;
            return std::string_view(out.data(), length - kDeflateTail.size());
        }
        room += room / 2;
    }
    // The compressed form of this message is not sent, so no later message may refer to it.
    deflateReset(stream_.get());
    return std::nullopt;
}

// --- Inflater ---

Inflater::Inflater(unsigned window_bits) : window_bits_(static_cast<uint8_t>(window_bits)) {}

void Inflater::End::operator()(z_stream *stream) const {
    inflateEnd(stream);
    delete stream;
}

bool Inflater::ready() {
    if (stream_) return true;
    stream_.reset(new (std::nothrow) z_stream());
    if (stream_ && inflateInit2(stream_.get(), -window_bits_) != Z_OK) stream_ = nullptr;
    return stream_ != nullptr;
}

// Inflates all of `piece` behind the first *total bytes of scratch. *ended: the piece ends with a final block.
Inflated Inflater::feed(std::string_view piece, size_t limit, Scratch &scratch, size_t *total, bool *ended) {
    z_stream &stream = *stream_;
    set_input(stream, piece);
    *ended = false;
    while (true) {
        if (*total == scratch.capacity()) {
            size_t wanted = std::min(std::max(kFirstBytes, 2 * scratch.capacity()), limit + 1);
            if (wanted <= *total || !scratch.reserve(wanted)) return Inflated::kTooBig;
        }
        size_t end = std::min(scratch.capacity(), limit + 1);
        set_output(stream, scratch, *total, end);
        int result = ::inflate(&stream, Z_SYNC_FLUSH);
        *total = end - stream.avail_out;
        if (*total > limit) return Inflated::kTooBig;
        if (result == Z_STREAM_END) {
            // The next block starts at the next byte, and may refer to earlier output.
            if (inflateResetKeep(&stream) != Z_OK) return Inflated::kCorrupt;
            if (stream.avail_in == 0) {
                *ended = true;
                return Inflated::kOk;
            }
        } else if (result == Z_OK || result == Z_BUF_ERROR) {
            if (stream.avail_out == 0) continue;  // zlib may have more output
            return stream.avail_in == 0 ? Inflated::kOk : Inflated::kCorrupt;
        } else {
            return result == Z_MEM_ERROR ? Inflated::kTooBig : Inflated::kCorrupt;
        }
    }
}

Inflated Inflater::run(std::string_view compressed, size_t limit, bool keep_context, Scratch &scratch,
                       std::string_view *out) {
    *out = {};
    if (compressed.empty()) return Inflated::kOk;
    if (!ready()) return Inflated::kTooBig;
    size_t total = 0;
    bool ended = false;
    Inflated result = feed(compressed, limit, scratch, &total, &ended);
    if (result == Inflated::kOk && !ended) {
        result = feed(kDeflateTail, limit, scratch, &total, &ended);
        // Bit 7: zlib is between two blocks. Otherwise the input was incomplete, or consumed a part of the tail.
        constexpr int kBetweenBlocks = 128;
        if (result == Inflated::kOk && !ended && !(stream_->data_type & kBetweenBlocks)) result = Inflated::kCorrupt;
    }
    if (!keep_context || result != Inflated::kOk) inflateReset(stream_.get());
    if (result == Inflated::kOk) *out = {scratch.data(), total};
    return result;
}

// --- Codecs ---

unsigned Codecs::window_for(size_t size, unsigned window) {
    if (is_whole(size, window)) window = kLargestWindow;
    return size <= kSmallMessage ? std::min(real_window(window), kSmallWindow) : real_window(window);
}

std::optional<std::string_view> Codecs::deflate(std::string_view message, unsigned window) {
    compressions++;
    if (is_whole(message.size(), window) || window == kLargestWindow) {
        std::string_view packed;
        switch (fast_.run(message, deflated, &packed)) {
        case FastDeflater::Result::kDone:
            return packed;
        case FastDeflater::Result::kNotSmaller:
            return std::nullopt;
        case FastDeflater::Result::kUnable:
            break;
        }
    }
    window = window_for(message.size(), window);
    std::unique_ptr<Deflater> &deflater = deflaters_[window];
    if (!deflater) {
        deflater.reset(window <= kSmallWindow ? new (std::nothrow) Deflater(window, kSmallMemory, kSmallLevel)
                                              : new (std::nothrow) Deflater(window, kLargeMemory, kLargeLevel));
        if (!deflater) return std::nullopt;
    }
    return deflater->run_alone(message, deflated);
}

std::optional<std::string_view> Codecs::deflate_in_context(Deflater &own, std::string_view message) {
    compressions++;
    return own.run_in_context(message, deflated);
}

void Codecs::trim() {
    deflated.trim();
    inflated.trim();
}

}  // namespace uwserve
