// Decodes the chunked transfer coding of a request's body (RFC 9112 section 7.1).
//
// Strict, because another parser in front that reads a chunk's line differently lets requests be smuggled: the only line end
// is CRLF, a size is hexadecimal digits alone, and a control character in an extension is an error. Extensions are ignored
// (section 7.1.1). What is no data is bounded: chunk lines by an allowance for each chunk and byte of data, trailers like a
// head.
//
// Incremental: any split of the input gives the same result, and nothing but trailers is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace uwserve {

class ChunkedBody {
  public:
    enum class Next {
        kData,  // *data is a piece of the body
        kMore,  // all of the input was taken
        kEnd,  // the body is complete; what is left of the input comes after it
        kMalformed,  // 400; so is every further call
    };
    // Takes what it understands from the front of `input`. `data` points into the input.
    Next next(std::string_view &input, std::string_view *data);

    // The trailer section with its final CRLF, once the body is complete; "\r\n" when there is no trailer.
    std::string_view trailers() const { return std::string_view(trailers_).substr(2); }

    // What the chunk under way has still to come, as it was declared: a limit need not wait for the bytes.
    uint64_t left_of_chunk() const { return size_; }

    // More bytes that are no data, beyond the allowances, are malformed.
    static constexpr size_t kMaxOverhead = 16 * 1024;
    static constexpr size_t kMaxTrailerBytes = 8 * 1024;

  private:
    enum class State : uint8_t {
        kFirstDigit,
        kDigits,
        kSpace,  // behind a size, where only an extension may follow
        kExtension,
        kLineFeed,  // of a chunk's line
        kData,
        kDataReturn,
        kDataLineFeed,
        kTrailers,
        kEnd,
        kMalformed,
    };
    bool take_line_byte(unsigned char byte);
    void end_line();
    Next take_trailers(std::string_view &input);

    State state_ = State::kFirstDigit;
    uint64_t size_ = 0;  // of the chunk, later what is left of it
    size_t overhead_ = 0;
    std::string trailers_ = "\r\n";  // the end of a line in front, so that an empty section ends as a full one does
};

}  // namespace uwserve
