// Chunked bodies. Input: four bytes for how the rest is cut, then the body. Promises: however the bytes are cut, the same
// data comes out and the body ends at the same byte; what is taken as complete is what a parser that sees all of it at once,
// written straight from the grammar of RFC 9112 section 7.1, takes too.
#include "fuzz.h"

#include "uws/http/chunked_body.h"

#include <string>

using namespace uwserve;
using Next = ChunkedBody::Next;

namespace {

struct Outcome {
    Next next = Next::kMore;
    std::string data, trailers;
    size_t taken = 0;
    bool operator==(const Outcome &) const = default;
};

Outcome decode(std::string_view bytes, std::string_view pattern) {
    cuts_t cuts(pattern);
    ChunkedBody body;
    Outcome outcome;
    while (outcome.taken < bytes.size() && outcome.next == Next::kMore) {
        const std::string piece(bytes.substr(outcome.taken, cuts.next(bytes.size() - outcome.taken)));
        std::string_view input = piece, data;
        while ((outcome.next = body.next(input, &data)) == Next::kData) outcome.data += data;
        outcome.taken += piece.size() - input.size();
    }
    if (outcome.next == Next::kEnd) outcome.trailers = body.trailers();
    if (outcome.next == Next::kMalformed) outcome.taken = 0;
    return outcome;
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// The length of a complete body, 0 for all else. It knows no bounds.
size_t length_by_grammar(std::string_view bytes, std::string *data) {
    size_t at = 0;
    for (;;) {
        const size_t end = bytes.find_first_of("\r\n", at);
        if (end == std::string_view::npos || bytes.substr(end, 2) != "\r\n") return 0;
        const std::string_view line = bytes.substr(at, end - at);
        size_t digits = 0;
        while (digits < line.size() && is_hex(line[digits])) digits++;
        const size_t zeros = std::min(line.find_first_not_of('0'), digits);
        if (!digits || digits - zeros > 16) return 0;
        std::string_view extension = line.substr(digits);
        for (char c : extension) {
            if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return 0;
        }
        const size_t semicolon = extension.find_first_not_of(" \t");
        if (!extension.empty() && (semicolon == std::string_view::npos || extension[semicolon] != ';')) return 0;
        const unsigned long long size = std::stoull(std::string(line.substr(0, digits)), nullptr, 16);
        at = end + 2;
        if (size == 0) break;
        if (bytes.size() - at < size || bytes.size() - at - size < 2 || bytes.substr(at + size, 2) != "\r\n") return 0;
        data->append(bytes.substr(at, size));
        at += size + 2;
    }
    for (;;) {
        const size_t end = bytes.find('\n', at);
        if (end == std::string_view::npos || end == at || bytes[end - 1] != '\r') return 0;
        const bool is_last = end == at + 1;
        at = end + 1;
        if (is_last) return at;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    const std::string_view pattern = input.take(4), bytes = input.rest();
    const Outcome whole = decode(bytes, {}), in_pieces = decode(bytes, pattern);
    CHECK_EQ(static_cast<int>(whole.next), static_cast<int>(in_pieces.next));
    if (whole.next != Next::kMalformed) CHECK(whole == in_pieces);

    std::string expected;
    const size_t length = length_by_grammar(bytes, &expected);
    if (whole.next == Next::kEnd) {
        CHECK_EQ(whole.taken, length);
        CHECK(whole.data == expected);
        CHECK(bytes.substr(0, length).ends_with(whole.trailers));
    } else if (length && bytes.size() < ChunkedBody::kMaxTrailerBytes) {
        CHECK(false);  // short of the bounds, all that is complete is taken
    }
    return 0;
}
