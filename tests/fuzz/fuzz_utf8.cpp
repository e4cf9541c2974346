// The UTF-8 validator against the plain one. Input: a byte for the number of bytes of the cutting pattern, the pattern,
// then the text. Promise: the verdict is the same however the text arrives, and falls with the piece that holds the
// first bad byte.
#include "../cpp/support/utf8_reference.h"
#include "fuzz.h"

#include "uws/websocket/utf8.h"

#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    const std::string_view pattern = input.take(input.byte() % 8);
    const std::string_view text = input.rest();
    bool complete;
    const size_t bad = utf8_first_bad(text, &complete);

    CHECK_EQ(uwserve::is_utf8(text), bad == text.size() && complete);
    for (const std::string_view cuts_from : {std::string_view(), pattern, std::string_view("\0", 1)}) {
        uwserve::Utf8 utf8;
        cuts_t cuts(cuts_from);
        size_t at = 0;
        while (at < text.size()) {
            const size_t length = cuts.next(text.size() - at);
            const std::vector<char> piece(text.begin() + (long) at,
                                          text.begin() + (long) (at + length));  // its own block
            const bool good = utf8.feed(piece.data(), piece.size());
            at += length;
            CHECK_EQ(good, at <= bad);
            if (!good) break;
        }
        if (bad == text.size()) CHECK_EQ(utf8.complete(), complete);
    }
    return 0;
}
